"""The engine's errors, as one small tree. Every message is written for the caller and safe to show.

EngineError
├─ EngineUnavailable     vLLM is missing, or the model could not be loaded or reached; a later call tries again
│  └─ OutOfMemory        the device ran out of memory; the engine was dropped, the next call loads it again
├─ EngineDied            the engine broke while it worked and was dropped; the next call loads it again
├─ InvalidGeneration     the engine rejects this request as it is; the caller can fix it
│  ├─ PromptTooLong      ... because the prompt does not fit into the model's context
│  └─ UnknownModel       ... because it names a model that the server does not have
├─ GenerationFailed      this request failed, the engine works
│  └─ ServerBusy         ... because a remote server is overloaded; it can succeed later
├─ OffloadUnsupported    this backend cannot move the model off its device; it can be released instead
├─ GenerationCancelled   the caller has cancelled the call; it gets no result
└─ SessionError          the session store rejects this call; the caller can fix it
   ├─ UnknownSession     ... because there is no session of that id
   └─ StoreUnavailable   the session file cannot be used now; a later call tries again
      ├─ StoreAbsent     ... because there is none and none can be created
      ├─ StoreNewer      ... because a newer version of the server wrote it
      └─ StoreDamaged    ... because its content cannot be read
"""

from __future__ import annotations

from collections.abc import Iterable


class EngineError(Exception):
    """Base of all engine errors; `str()` is a sentence for the caller."""


class EngineUnavailable(EngineError):
    """vLLM is missing, the model could not be loaded, or the remote server cannot be used.

    Attribute: `lacks_memory`, whether the load may succeed when there is more free memory.
    """

    lacks_memory = False


class OutOfMemory(EngineUnavailable):
    """The device ran out of memory in a load or a generation; the engine was dropped."""

    lacks_memory = True


class EngineDied(EngineError):
    """The engine broke in the middle of its work and was dropped."""


class InvalidGeneration(EngineError):
    """The engine rejects this request; another request can succeed."""


class PromptTooLong(InvalidGeneration):
    """The rendered prompt leaves no room for generated tokens in the model's context.

    Attributes: `prompt_tokens` (`None` where vLLM does not say), `max_model_len`.
    """

    def __init__(self, prompt_tokens: int | None, max_model_len: int) -> None:
        length = f"{prompt_tokens} tokens" if prompt_tokens is not None else "more tokens than fit"
        super().__init__(
            f"The prompt is too long: it has {length}, and the model's context holds {max_model_len} including the "
            "answer. Send fewer or shorter messages, or fewer images."
        )
        self.prompt_tokens = prompt_tokens
        self.max_model_len = max_model_len


class UnknownModel(InvalidGeneration):
    """The server has no model of that name."""

    def __init__(self, name: str, names: Iterable[str]) -> None:
        import difflib

        known = tuple(names)
        nearest = difflib.get_close_matches(name[:60], known, 1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        super().__init__(
            f"There is no model {name[:256]!r} here.{hint} The models of this server: {', '.join(known)}. VLLM_MODELS "
            "adds others."
        )


class GenerationFailed(EngineError):
    """This request failed; the engine still works."""


class ServerBusy(GenerationFailed):
    """A remote server accepts no more requests now.

    Attributes: `retry_after_s`, the seconds that it asks to wait, `None` where it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OffloadUnsupported(EngineError):
    """The backend, or the way the model was loaded, does not support offloading."""


class GenerationCancelled(EngineError):
    """The caller has cancelled the generation."""


class SessionError(EngineError):
    """The conversation cannot be continued or stored; another call can succeed."""


class UnknownSession(SessionError):
    """There is no session of that id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id!r}. list_sessions names those that exist.")
        self.session_id = session_id


class StoreUnavailable(SessionError):
    """The session file cannot be read or written now."""


class StoreAbsent(StoreUnavailable):
    """There is no session file, and none can be created."""


class StoreNewer(StoreUnavailable):
    """The session file was written by a newer version of the server."""


class StoreDamaged(StoreUnavailable):
    """The content of the session file cannot be read."""
