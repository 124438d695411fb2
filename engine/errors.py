"""What can go wrong in the engine, as one small tree. Every message is written for the caller and safe to show.

EngineError
├─ EngineUnavailable     vLLM is missing, or the model could not be loaded or reached; a later call tries again
│  └─ OutOfMemory        the device's memory did not suffice; the engine was dropped, the next call loads afresh
├─ EngineDied            the engine broke while it worked and was dropped; the next call loads afresh
├─ InvalidGeneration     the engine refuses this request as it is; the caller can mend it
│  └─ PromptTooLong      ... because the prompt does not fit into the model's context
├─ GenerationFailed      this request failed, the engine is well
│  └─ ServerBusy         ... because a remote server has too much to do; later it can succeed
├─ OffloadUnsupported    this backend cannot move the model off its device; it can be released instead
├─ GenerationCancelled   the caller asked to stop; nothing is to be answered
└─ SessionError          the store of conversations refuses this call; the caller can mend it
   ├─ UnknownSession     ... because there is no session of that id
   └─ StoreUnavailable   the file of the sessions cannot be used now; a later call tries again
      ├─ StoreAbsent     ... because there is none of ours and none can be made
      ├─ StoreNewer      ... because a newer server wrote it
      └─ StoreDamaged    ... because what is in it cannot be read
"""


class EngineError(Exception):
    """Base of all engine errors; `str()` is a sentence for the caller."""


class EngineUnavailable(EngineError):
    """vLLM is missing, the model could not be loaded, or the server that has it cannot be used."""


class OutOfMemory(EngineUnavailable):
    """The device ran out of memory, at load or in a generation; the engine was dropped."""


class EngineDied(EngineError):
    """The engine broke in the middle of its work and was dropped."""


class InvalidGeneration(EngineError):
    """The engine refuses this request; another request can succeed."""


class PromptTooLong(InvalidGeneration):
    """The rendered prompt leaves no room for an answer in the model's context.

    Attributes: `prompt_tokens` (None where vLLM did not say), `max_model_len`.
    """

    def __init__(self, prompt_tokens: int | None, max_model_len: int) -> None:
        length = f"{prompt_tokens} tokens" if prompt_tokens is not None else "more tokens than fit"
        super().__init__(
            f"The prompt is too long: it has {length}, and the model's context holds {max_model_len} including the "
            "answer. Send fewer or shorter messages, or fewer pictures."
        )
        self.prompt_tokens = prompt_tokens
        self.max_model_len = max_model_len


class GenerationFailed(EngineError):
    """This request failed; the engine goes on."""


class ServerBusy(GenerationFailed):
    """A remote server takes no more requests now.

    Attributes: `retry_after_s`, how long it asks to wait, `None` where it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OffloadUnsupported(EngineError):
    """The backend, or the way the model was loaded, knows no offloading."""


class GenerationCancelled(EngineError):
    """The generation was stopped because the caller no longer wants it."""


class SessionError(EngineError):
    """The conversation cannot be continued or stored as asked; another call can succeed."""


class UnknownSession(SessionError):
    """There is no session of that id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id!r}. list_sessions names those that exist.")
        self.session_id = session_id


class StoreUnavailable(SessionError):
    """The file that keeps the sessions cannot be read or written now."""


class StoreAbsent(StoreUnavailable):
    """There is no file that could hold sessions of ours, and none can be made."""


class StoreNewer(StoreUnavailable):
    """The file was written by a newer server."""


class StoreDamaged(StoreUnavailable):
    """What is in the file cannot be read."""
