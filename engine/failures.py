"""From whatever vLLM and its libraries raise to our errors, with texts that are safe to show.

vLLM's classes are known here by name: they moved between versions, and some load failures come from transformers,
huggingface_hub or pydantic. The full detail goes to the log.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback

from engine.arguments import FAILED, shown_name
from engine.errors import EngineDied, EngineError, EngineUnavailable, GenerationFailed, InvalidGeneration, OutOfMemory
from settings import EngineSettings

log = logging.getLogger("engine")
MOST_CHARACTERS = 500

# The caller's fault. VLLMValidationError is a ValueError in vLLM 0.26 and none in 0.32.
_REFUSALS = frozenset({"VLLMClientError", "ValueError", "TypeError", "TemplateError", "ChatTemplateResolutionError"})
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|No available memory", re.I)
_SHORTAGE = re.compile(
    r"failed to map segment|Cannot allocate memory|can't start new thread|Resource temporarily unavailable|bad_alloc"
)
_PARAMETER = re.compile(r"\s*\(parameter=.*\)\s*$", re.S)
_PYDANTIC = re.compile(r"(?:Value error|Assertion failed), (.*?) \[type=", re.S)
_ADDRESS = re.compile(r"\s*(?:object )?at 0x[0-9a-fA-F]+|0x[0-9a-fA-F]{6,}")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")

_LOAD_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"gated repo|awaiting a review|is restricted",
        "the model {model} is gated. Accept its terms at huggingface.co and set HUGGING_FACE_HUB_TOKEN.",
    ),
    (
        r"RepositoryNotFound|is not a valid model identifier|Repository Not Found|Repo id must|\b401 Client Error",
        "there is no public model {model} at Hugging Face. Check VLLM_MODEL_NAME; for a private model set "
        "HUGGING_FACE_HUB_TOKEN.",
    ),
    (
        r"couldn't connect|LocalEntryNotFound|OfflineModeIsEnabled|Connection ?Error|Max retries|Name or service not"
        r"|Network is unreachable|ConnectError|ConnectTimeout|outgoing traffic has been disabled|Could not reach",
        "the model {model} is not on this machine and Hugging Face cannot be reached. Set VLLM_MODEL_NAME to a model's "
        "folder, or allow the download.",
    ),
    (
        r"Cannot find any model weights",
        "the model {model} has no weights that vLLM can read. Its folder needs *.safetensors files.",
    ),
    (
        r"trust_remote_code|custom code|remote code",
        "the model {model} comes with Python code of its own. Set VLLM_TRUST_REMOTE_CODE=1 if you trust its authors.",
    ),
    (
        r"[Rr]easoning parser",
        "the parser in VLLM_REASONING_PARSER does not fit the model {model}: its tokenizer lacks what the parser looks "
        "for. Set it to the parser of the model's family, or leave it empty.",
    ),
    (
        r"Engine core initialization failed|Failed core proc|EngineCore failed",
        "the engine's process ended while it loaded {model}. The log (stderr) says why.",
    ),
)


def load_failure(error: BaseException, settings: EngineSettings) -> EngineUnavailable:
    """What a failed load tells the caller; opens with "Failed to initialize vLLM" or "CUDA out of memory"."""
    if isinstance(error, EngineUnavailable):
        return error
    log.error("The model could not be loaded.", exc_info=error)
    if not isinstance(error, Exception):
        name = type(error).__name__
        return EngineUnavailable(f"{FAILED}: a library gave up ({name}). The log (stderr) has the details. Try again.")
    chain = _whole_chain(error)
    if _is_out_of_memory(error):
        return out_of_memory(settings)
    if _SHORTAGE.search(chain):
        return _shortage()
    for pattern, text in _LOAD_HINTS:
        if re.search(pattern, chain):
            return EngineUnavailable(f"{FAILED}: {text.format(model=shown_name(settings))}")
    return EngineUnavailable(f"{FAILED}: {_sentence(error)} The log (stderr) has the details.")


def reason(error: BaseException) -> str:
    """Why something could not be loaded, in a sentence; the details go to the log."""
    log.error("A part of the model could not be loaded.", exc_info=error)
    return _sentence(error)


def import_failure(error: BaseException) -> EngineUnavailable:
    """What is told when vLLM itself cannot be imported."""
    log.error("vLLM could not be imported.", exc_info=error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "vllm":
        return EngineUnavailable(
            f"{FAILED}: {sys.executable} has no vllm. Run scripts/demo once, which installs it beside the server, or "
            "start the server with a Python that has it."
        )
    chain = _whole_chain(error)
    if _is_out_of_memory(error) or _SHORTAGE.search(chain):
        return _shortage()
    if "torchvision" in chain:
        return EngineUnavailable(
            f"{FAILED}: the torchvision of {sys.executable} does not fit its torch. Run scripts/demo, which repairs "
            "that, or uninstall torchvision, torchaudio and torchcodec."
        )
    return EngineUnavailable(
        f"{FAILED}: importing vllm with {sys.executable} failed: {_sentence(error)} Run scripts/demo, which installs "
        "versions that fit together."
    )


def out_of_memory(settings: EngineSettings) -> OutOfMemory:
    """The text for exhausted memory, with the settings that help."""
    length = settings.max_model_len if settings.max_model_len is not None else "the model's"
    return OutOfMemory(
        "CUDA out of memory. Try: 1) Reduce VLLM_GPU_MEMORY_UTILIZATION (current: "
        f"{settings.gpu_memory_utilization:g}), 2) Reduce VLLM_MAX_MODEL_LEN (current: {length}), 3) Use a smaller or "
        "quantized model, 4) Close other programs that use the memory; on a CPU reduce VLLM_CPU_KVCACHE_SPACE. The "
        "model was dropped; the next call loads it again."
    )


def step_failure(error: BaseException, settings: EngineSettings) -> EngineError:
    """What is told when the engine broke in the middle of its work."""
    log.error("The engine stopped working.", exc_info=error)
    if _is_out_of_memory(error):
        return out_of_memory(settings)
    return EngineDied(
        "The engine stopped working and was dropped; the next call loads it again. If the same call breaks it again, "
        "send a shorter prompt or another picture. The log (stderr) says why it stopped."
    )


def is_fatal(error: BaseException) -> bool:
    """Whether an error that came while requests were added means that the engine is gone."""
    return _is_a(error, {"EngineDeadError"}) or _is_out_of_memory(error)


def refusal(error: BaseException) -> EngineError:
    """What is told when vLLM did not take a request and is well."""
    if isinstance(error, EngineError):
        return error
    if _is_a(error, _REFUSALS):
        log.info("vLLM refused a request: %s", _cleaned(str(error)))
        return InvalidGeneration(_sentence(error))
    log.error("A request failed.", exc_info=error)
    return GenerationFailed(f"The request failed: {_sentence(error)} The log (stderr) has the details.")


def is_too_long(error: BaseException) -> bool:
    """Whether vLLM refused a prompt because of its length."""
    text = str(error)
    return _is_a(error, _REFUSALS) and ("maximum context length" in text or "maximum model length" in text)


def is_cache_miss(error: BaseException) -> bool:
    """Whether vLLM's two caches of pictures disagree; the same request succeeds when it is sent again."""
    return _is_a(error, {"MultiModalCacheMissError"})


def forget_frames(error: BaseException) -> None:
    """Drops the local variables that an error's traceback keeps alive, the model's weights among them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__


def _shortage() -> EngineUnavailable:
    return EngineUnavailable(
        f"{FAILED}: the system gave the server no more memory or threads. Close other programs, or raise the server's "
        "limits (ulimit -v and -u, those of its container), and ask again. The log (stderr) has the details."
    )


def _is_a(error: BaseException, names: frozenset[str] | set[str]) -> bool:
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _is_out_of_memory(error: BaseException) -> bool:
    return _is_a(error, {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def _whole_chain(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, limit=0).format())


def _sentence(error: BaseException) -> str:
    text = _cleaned(str(error)) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _cleaned(text: str) -> str:
    """The reason alone: no echo of values, no addresses, no tokens, no pages of pydantic."""
    if found := _PYDANTIC.search(text):
        text = found[1]
    text = _TOKEN.sub("hf_…", _ADDRESS.sub("", _PARAMETER.sub("", text)))
    text = " ".join(text.split())
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
