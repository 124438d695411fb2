"""The command of an installed server: it runs the tree that a clone runs with `python vllm_server.py`.

In a wheel the tree lies inside this folder, in a clone and an editable install around it. Its top-level names, such as
`settings`, are importable in this process alone. This module knows nothing else of the server.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def root() -> str:
    """The folder of `vllm_server.py`."""
    return HERE if os.path.exists(os.path.join(HERE, "vllm_server.py")) else os.path.dirname(HERE)


def main() -> None:
    """Runs the server; its options are those of `vllm_server.py`."""
    if not sys.flags.safe_path:
        del sys.path[0]  # the script's folder, or with `-m` the working folder, whose modules are not the server's
    sys.path.insert(0, root())
    import vllm_server

    vllm_server.main()
