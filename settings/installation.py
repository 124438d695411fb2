"""Where this server's files are, and whether they are a clone of the repository or an installed package."""

import os
import re
import sys

COMMAND = "mcp-server-vllm"
"""The name of the package to install, and of its command."""
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of `vllm_server.py`."""
DEMO_MODEL = os.path.join(ROOT, "models", "demo-vlm")


def is_clone() -> bool:
    """Whether the scripts of the repository are there: a package has only those that install vLLM, so no text may name
    them."""
    return os.path.exists(os.path.join(ROOT, "scripts", "demo"))


def in_clone(text: str) -> str:
    """A part of a sentence that holds in a clone only; elsewhere nothing."""
    return text if is_clone() else ""


def program() -> str:
    """What a user runs: the file of a clone, or the installed command."""
    return "vllm_server.py" if is_clone() else COMMAND


def missing_vllm() -> str | None:
    """That vLLM is not installed and how to get it, or None if it is there; does not import it."""
    from importlib.util import find_spec

    if sys.modules.get("vllm") is not None or find_spec("vllm") is not None:
        return None
    other = "set VLLM_BASE_URL to the address of a vLLM or other OpenAI-compatible server."
    if sys.platform != "linux":
        return f"vLLM runs on Linux only, so no model runs on this machine: {other}"
    python = os.path.join(ROOT, ".venv", "bin", "python")
    how = (
        in_clone(f"run `scripts/demo` once, which installs it for {python}, and start the server with that")
        or f"run `{_command()} --install-engine` (some minutes, 1 GB or more to download) and start the server again"
    )
    return (
        f"vLLM is not installed for {sys.executable}, so no model runs on this machine. In a terminal {how}; or {other}"
    )


def repair_vllm() -> str:
    """What to run where an installed vLLM does not work."""
    return "scripts/demo" if is_clone() else f"{_command()} --install-engine"


def missing_media(noun: str) -> str:
    """That the packages for audio and video are not installed, and how to get them.

    Arguments: `noun` names what cannot be read, such as "audio".
    """
    extra = f"{COMMAND}[media]"
    how = f"run `{sys.executable} -m pip install '{extra}'`"
    if is_clone():
        how = in_clone("run `scripts/setup`")
    elif os.path.exists(os.path.join(sys.prefix, "uv-receipt.toml")):  # uv's list of what a tool was installed with
        how = f"run `uv tool install '{extra}'`"
    elif is_of_uvx(sys.prefix):
        how = f"start the server with `uvx --from '{extra}' {COMMAND}`"
    return f"The {noun} needs the extra media: {how}, and start the server again."


def _command() -> str:
    """How a user starts an installed server in a terminal."""
    return f"uvx {COMMAND}" if is_of_uvx(sys.prefix) else COMMAND


def is_of_uvx(environment: str) -> bool:
    """Whether an environment is in uv's cache, where uvx makes them: uv may delete it at any time, and its command is
    not on the path."""
    return re.fullmatch(r"(?:archive|environments)-v\d+", os.path.basename(os.path.dirname(environment))) is not None
