"""health.py PORT: exit status 0 where the server on this machine's PORT says that it is well.

For a container's health check: with the standard library alone, and past any proxy that the environment names.
"""

import http.client
import sys

TIMEOUT_S = 8


def main() -> int:
    """Asks; returns the exit status."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {type(error).__name__}")
        return 1
    finally:
        connection.close()
    print(f"HTTP {status}")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
