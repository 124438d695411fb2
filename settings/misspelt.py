"""Variables that look like a setting of ours with a slip of the pen, which would be ignored without a word.

vLLM reads hundreds of variables of its own that begin with VLLM_; their names are read out of its file `envs.py`,
since importing vLLM takes seconds.
"""

import os
import re
from collections.abc import Collection, Mapping

PREFIXES = ("VLLM_", "OMNI_", "GPU_IDLE_")
SURELY, MAYBE = 0.92, 0.75
"""How alike two names are (difflib's ratio). No variable of vLLM 0.32 is above 0.88 of one of ours."""
_MAX_ENVS_BYTES = 1 << 20
_VARIABLE_OF_VLLM = r"[\"'](VLLM_\w+)[\"']"


def slips(values: Mapping[str, str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """A sentence for each variable that is surely meant to be a setting, and for each that may be meant so.

    Arguments: all variables that are set, and the names of the settings.
    """
    strangers = {
        name: meant
        for name in values
        if name not in known and (meant := _normal(name)).startswith(PREFIXES) and values[name].strip()
    }
    if not strangers:
        return [], []
    import difflib  # a few ms, only where there are such variables

    surely: list[str] = []
    maybe: list[str] = []
    theirs: frozenset[str] | None = None
    for name, meant in sorted(strangers.items()):
        nearest = difflib.get_close_matches(meant, known, 1, MAYBE)
        if not nearest:
            continue
        theirs = _names_of_vllm() if theirs is None else theirs
        if name in theirs:
            continue
        if difflib.SequenceMatcher(None, meant, nearest[0]).ratio() >= SURELY:
            surely.append(f"The variable {name} is no setting of this server. Did you mean {nearest[0]}?")
        elif nearest[0] not in values:
            maybe.append(f"The variable {name} is no setting of this server; if it was meant for it: {nearest[0]}.")
    return surely, maybe


def _normal(name: str) -> str:
    """The name as settings have it: without spaces around, in capitals, with no other dashes than low ones."""
    return name.strip().upper().replace("-", "_")


def _names_of_vllm() -> frozenset[str]:
    """The variables that the installed vLLM knows; none where it is not installed or keeps them elsewhere."""
    import importlib.util

    try:
        spec = importlib.util.find_spec("vllm")  # looks for the package and does not run it
        folder = next(iter((spec and spec.submodule_search_locations) or ()))
        with open(os.path.join(folder, "envs.py"), encoding="utf-8") as file:
            return frozenset(re.findall(_VARIABLE_OF_VLLM, file.read(_MAX_ENVS_BYTES)))
    except (OSError, ValueError, StopIteration, ImportError):
        return frozenset()
