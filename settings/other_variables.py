"""Variables that are no settings but may be meant as some: former settings, and misspelt names.

vLLM reads hundreds of variables whose names begin with VLLM_. Their names are taken from the text of its module
`envs.py`, because importing vLLM takes seconds.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping

from settings import placeholders

FORMER: dict[str, str] = {
    "VLLM_ENABLE_SLEEP_MODE": 'VLLM_EXTRA_ENGINE_ARGS={"enable_sleep_mode": false}',
    "VLLM_ENFORCE_EAGER": 'VLLM_EXTRA_ENGINE_ARGS={"enforce_eager": true}',
    "VLLM_MAX_NUM_SEQS": 'VLLM_EXTRA_ENGINE_ARGS={"max_num_seqs": 32}',
    "VLLM_MM_PROCESSOR_KWARGS": 'VLLM_EXTRA_ENGINE_ARGS={"mm_processor_kwargs": {}}',
    "VLLM_PIPELINE_PARALLEL_SIZE": 'VLLM_EXTRA_ENGINE_ARGS={"pipeline_parallel_size": 2}',
    "VLLM_QUANTIZATION": 'VLLM_EXTRA_ENGINE_ARGS={"quantization": "fp8"}',
    "VLLM_TRUST_REMOTE_CODE": 'VLLM_EXTRA_ENGINE_ARGS={"trust_remote_code": true}',
    "VLLM_IMAGE_FETCH_TIMEOUT": "VLLM_MEDIA_FETCH_TIMEOUT",
    "VLLM_VIDEO_FETCH_TIMEOUT": "VLLM_MEDIA_FETCH_TIMEOUT",
    "VLLM_MAX_AUDIO_BYTES": "VLLM_MAX_MEDIA_BYTES",
    "VLLM_MAX_VIDEO_BYTES": "VLLM_MAX_MEDIA_BYTES",
    "VLLM_HTTP_MAX_SESSIONS": "",
    "VLLM_HTTP_SESSION_IDLE": "",
    "VLLM_MAX_LINE_BYTES": "",
    "VLLM_MAX_SESSION_BYTES": "",
    "VLLM_MAX_TEXT_BYTES": "",
}
"""Former settings, each with what replaces it; "" for a value that is fixed now."""
MEANT = {"VLLM_MODEL": "VLLM_MODEL_NAME"}
"""Names that are more alike another setting than the one that is meant."""
PREFIXES = ("VLLM_", "OMNI_", "GPU_IDLE_")
CERTAIN, LIKELY = 0.92, 0.75
"""Similarity of two names (difflib's ratio). No variable of vLLM 0.32 is above 0.88 with one of the settings."""
_MAX_ENVS_BYTES = 1 << 20
_VARIABLE_OF_VLLM = r"[\"'](VLLM_\w+)[\"']"


def former_settings(values: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each former setting that is still set."""
    for name, replacement in FORMER.items():
        if placeholders.cleaned(values.get(name, "")):
            advice = f"Use {replacement} instead" if replacement else "Its value is fixed now; remove it"
            yield f"The variable {name} is no longer a setting of this server and is ignored. {advice}."


def misspelt(values: Mapping[str, str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """A sentence for each variable that is certainly a misspelt setting, and for each that is likely one.

    Arguments:
        values: all variables.
        known: the names of the settings.
    """
    unknown = {
        name: normal
        for name in values
        if name not in known
        and name not in FORMER
        and (normal := _normal(name)).startswith(PREFIXES)
        and values[name].strip()
    }
    if not unknown:
        return [], []
    import difflib  # takes a few ms

    certain: list[str] = []
    likely: list[str] = []
    of_vllm: frozenset[str] | None = None
    for name, normal in sorted(unknown.items()):
        nearest = [MEANT[normal]] if normal in MEANT else difflib.get_close_matches(normal, known, 1, LIKELY)
        if not nearest:
            continue
        of_vllm = _names_of_vllm() if of_vllm is None else of_vllm
        if name in of_vllm:
            continue
        if difflib.SequenceMatcher(None, normal, nearest[0]).ratio() >= CERTAIN:
            certain.append(f"The variable {name} is not a setting of this server. Did you mean {nearest[0]}?")
        elif nearest[0] not in values:
            likely.append(f"The variable {name} is not a setting of this server. A similar setting is {nearest[0]}.")
    return certain, likely


def _normal(name: str) -> str:
    """The name in the form of the settings: without surrounding spaces, in capitals, with underscores for hyphens."""
    return name.strip().upper().replace("-", "_")


def _names_of_vllm() -> frozenset[str]:
    """The variables that the installed vLLM knows; none if it is not installed or defines them elsewhere."""
    import importlib.util

    try:
        spec = importlib.util.find_spec("vllm")  # does not import the package
        folder = next(iter((spec and spec.submodule_search_locations) or ()))
        with open(os.path.join(folder, "envs.py"), encoding="utf-8") as file:
            return frozenset(re.findall(_VARIABLE_OF_VLLM, file.read(_MAX_ENVS_BYTES)))
    except (OSError, ValueError, StopIteration, ImportError):
        return frozenset()
