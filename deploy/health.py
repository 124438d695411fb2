"""health.py PORT: exit status 0 if the server on this machine's PORT is healthy.

For the health check of a container. It uses only the standard library, and ignores proxies of the environment.
"""

import http.client
import sys

TIMEOUT_S = 8


def main() -> int:
    """Sends the request; returns the exit status."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no response: {type(error).__name__}")
        return 1
    finally:
        connection.close()
    print(f"HTTP {status}")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
