"""Turns exceptions of vLLM and its libraries into `EngineError`s, with texts that are safe to show.

vLLM's classes are recognized by name: they moved between versions, and some load failures come from transformers,
huggingface_hub or pydantic. The full detail goes to the log.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback

from engine.errors import EngineDied, EngineError, EngineUnavailable, GenerationFailed, InvalidGeneration, OutOfMemory
from engine.local.engine_args import FAILED
from settings import EngineSettings, missing_vllm, repair_vllm

log = logging.getLogger("engine")
MAX_CHARACTERS = 500

# Errors in the request. VLLMValidationError is a ValueError in vLLM 0.26 but not in 0.32.
_INVALID = frozenset({"VLLMClientError", "ValueError", "TypeError", "TemplateError", "ChatTemplateResolutionError"})
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|No available memory", re.I)
_SHORTAGE = re.compile(
    r"failed to map segment|Cannot allocate memory|can't start new thread|Resource temporarily unavailable|bad_alloc"
)
# vLLM 0.32 measures before it allocates: on a GPU, on a CPU, and for the KV cache that one request needs.
_TOO_LITTLE_FREE = re.compile(r"Free memory on device|Available memory on node|KV cache (?:memory )?is needed")
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
        "there is no public model {model} at Hugging Face. Check {variable}; for a private model set "
        "HUGGING_FACE_HUB_TOKEN.",
    ),
    (
        r"couldn't connect|LocalEntryNotFound|OfflineModeIsEnabled|Connection ?Error|Max retries|Name or service not"
        r"|Network is unreachable|ConnectError|ConnectTimeout|outgoing traffic has been disabled|Could not reach",
        "the model {model} is not on this machine and Hugging Face cannot be reached. Set {variable} to a model's "
        "folder, or allow the download.",
    ),
    (
        r"Cannot find any model weights",
        "the model {model} has no weights that vLLM can read. Its folder needs *.safetensors files.",
    ),
    (
        r"trust_remote_code|custom code|remote code",
        "the model {model} comes with Python code of its own. Set "
        'VLLM_EXTRA_ENGINE_ARGS={"trust_remote_code": true} if you trust its authors.',
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
    """The error for a failed load; begins with "Failed to initialize vLLM" or "CUDA out of memory"."""
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
    failure = _other_load_failure(error, chain, settings)
    failure.lacks_memory = _TOO_LITTLE_FREE.search(chain) is not None
    return failure


def _other_load_failure(error: Exception, chain: str, settings: EngineSettings) -> EngineUnavailable:
    for pattern, text in _LOAD_HINTS:
        if re.search(pattern, chain):
            return EngineUnavailable(f"{FAILED}: {_filled(text, settings)}")
    return EngineUnavailable(f"{FAILED}: {_sentence(error)} The log (stderr) has the details.")


def _filled(text: str, settings: EngineSettings) -> str:
    """A hint with its placeholders filled; some hints have braces of their own."""
    return text.replace("{model}", settings.shown_name).replace("{variable}", settings.variable)


def reason(error: BaseException) -> str:
    """A sentence that says why something could not be loaded; the details go to the log."""
    log.error("A part of the model could not be loaded.", exc_info=error)
    return _sentence(error)


def require_vllm() -> None:
    """Raises `EngineUnavailable` if vLLM is not installed."""
    if (text := missing_vllm()) is not None:
        raise EngineUnavailable(f"{FAILED}: {text}")


def import_failure(error: BaseException) -> EngineUnavailable:
    """The error for a vLLM that cannot be imported."""
    log.error("vLLM could not be imported.", exc_info=error)
    chain = _whole_chain(error)
    if _is_out_of_memory(error) or _SHORTAGE.search(chain):
        return _shortage()
    if "torchvision" in chain:
        return EngineUnavailable(
            f"{FAILED}: the torchvision of {sys.executable} does not fit its torch. Run `{repair_vllm()}`, "
            "which repairs that, or uninstall torchvision, torchaudio and torchcodec."
        )
    return EngineUnavailable(
        f"{FAILED}: importing vllm with {sys.executable} failed: {_sentence(error)} Run "
        f"`{repair_vllm()}`, which installs versions that fit together."
    )


def out_of_memory(settings: EngineSettings) -> OutOfMemory:
    """The error for exhausted memory, with the settings that help."""
    length = settings.max_model_len if settings.max_model_len is not None else "the model's"
    return OutOfMemory(
        "CUDA out of memory. Try: 1) Reduce VLLM_GPU_MEMORY_UTILIZATION (current: "
        f"{settings.gpu_memory_utilization:g}), 2) Reduce VLLM_MAX_MODEL_LEN (current: {length}), 3) Use a smaller or "
        "quantized model, 4) Close other programs that use the memory; on a CPU reduce VLLM_CPU_KVCACHE_SPACE. The "
        "model was dropped; the next call loads it again."
    )


def step_failure(error: BaseException, settings: EngineSettings) -> EngineError:
    """The error for an engine that broke in the middle of its work."""
    log.error("The engine stopped working.", exc_info=error)
    if _is_out_of_memory(error):
        return out_of_memory(settings)
    return EngineDied(
        "The engine stopped working and was dropped; the next call loads it again. If the same call breaks it again, "
        "send a shorter prompt or another image. The log (stderr) says why it stopped."
    )


def is_fatal(error: BaseException) -> bool:
    """Whether an error during the addition of a request means that the engine is gone."""
    return _is_a(error, {"EngineDeadError"}) or _is_out_of_memory(error)


def rejection(error: BaseException) -> EngineError:
    """The error for a request that vLLM rejected while the engine works."""
    if isinstance(error, EngineError):
        return error
    if _is_a(error, _INVALID):
        log.info("vLLM rejected a request: %s", _cleaned(str(error)))
        return InvalidGeneration(_sentence(error))
    log.error("A request failed.", exc_info=error)
    return GenerationFailed(f"The request failed: {_sentence(error)} The log (stderr) has the details.")


def is_too_long(error: BaseException) -> bool:
    """Whether vLLM rejected a prompt because of its length."""
    text = str(error)
    return _is_a(error, _INVALID) and ("maximum context length" in text or "maximum model length" in text)


def is_cache_miss(error: BaseException) -> bool:
    """Whether vLLM's two caches of images disagree; the same request succeeds when it is sent again."""
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
    failure = EngineUnavailable(
        f"{FAILED}: the system gave the server no more memory or threads. Close other programs, or raise the server's "
        "limits (ulimit -v and -u, those of its container), and ask again. The log (stderr) has the details."
    )
    failure.lacks_memory = True
    return failure


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
    """The reason without echoed values, addresses, tokens and pydantic's details."""
    if found := _PYDANTIC.search(text):
        text = found[1]
    text = _TOKEN.sub("hf_…", _ADDRESS.sub("", _PARAMETER.sub("", text)))
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
