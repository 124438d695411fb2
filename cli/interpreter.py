"""The interpreter of the server: that of an installed engine, else one with msgspec, which the start needs."""

import os
import sys
from collections.abc import Mapping, Sequence

WITHOUT_ENGINE = {"--install-engine", "--install", "--print-config", "--version", "--help", "-h"}
"""Options that need no engine. Client configurations name the command as it was installed."""


def use_engine(root: str, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Restarts an installed server with the Python of the environment that `--install-engine` made, if there is one.

    An environment that does not fit this version is reported on stderr and not used.
    """
    if sys.platform != "linux" or os.path.exists(os.path.join(root, "scripts", "demo")):
        return
    from cli.engine_environment import engine_environment

    engine = engine_environment(root, environment)
    if engine.kind() is None or os.path.realpath(sys.prefix) == os.path.realpath(engine.folder):
        return
    if WITHOUT_ENGINE & {argument.partition("=")[0] for argument in arguments}:
        return
    problem = engine.problem()
    if problem is None:
        try:
            os.execv(engine.python, [engine.python, os.path.join(root, "vllm_server.py"), *arguments])
        except OSError as error:
            problem = f"cannot be started ({error.strerror})"
    if sys.stderr is not None:
        print(f"mcp-server-vllm: the engine {problem}; run mcp-server-vllm --install-engine again", file=sys.stderr)


def require_msgspec(root: str) -> None:
    """Restarts the program with the Python of `root`'s `.venv` if this one lacks msgspec, or exits if there is none."""
    try:
        import msgspec  # noqa: F401
    except ImportError:
        place = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
        python = os.path.join(venv := os.path.join(root, ".venv"), *place)
        if os.path.exists(python) and sys.prefix != venv:
            if sys.platform == "win32":  # `os.execv` would end the process that the client holds
                sys.exit(f"vllm_server.py: msgspec is not installed for {sys.executable}. Start it with {python}.")
            os.execv(python, [python, *sys.argv])
        demo = os.path.join(root, "scripts", "demo")  # a wheel has none; `settings`, which says so, needs msgspec
        advice = f"Run {demo} once." if os.path.exists(demo) else "Install mcp-server-vllm again."
        sys.exit(f"vllm_server.py: msgspec is not installed for {sys.executable}. {advice}")
