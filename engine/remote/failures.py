"""The errors for the responses of a remote server; their messages are safe to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, EngineUnavailable, GenerationFailed, InvalidGeneration, PromptTooLong, ServerBusy
from http_client.addresses import api_of, host_of, root_of
from http_client.redaction import KeyFilter, plain
from http_client.refusals import Blame, Refusal, refusal

DASHSCOPE_HOSTS = ".aliyuncs.com"

_CONTEXT = re.compile(r"(?:context length (?:is|of)(?: only)?|maximum context length \(|model length of)\s*(\d+)")
_PROMPT = re.compile(
    r"prompt contains (\d+) (?:input )?tokens|messages resulted in (\d+)|passed (\d+) input tokens"
    r"|\((\d+) in the messages|Input length \((\d+)\)|prompt \(length (\d+)\)"
)


class NoListing(EngineUnavailable):
    """The server responds, but not with a list of models; a call that names a model does not need it.

    Attributes:
        is_absent: whether the server has no such list.
        is_late: whether the response may still arrive.
    """

    def __init__(self, message: str, *, is_absent: bool = False, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent
        self.is_late = is_late


class Refused(EngineError):
    """The server responds with an error; `refusal` may name a field to leave out, `None` where a retry is not safe."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal: Refusal | None = refusal


class NotFound(Refused, InvalidGeneration):
    """The server does not have the model or the path."""


class Declined(Refused, InvalidGeneration):
    """The server rejects the request."""


class Broken(Refused, GenerationFailed):
    """The server failed, as some do on unknown fields."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """One server: its address, its key, its time limits, and the errors that name them.

    Attributes:
        url: the address without `/v1` at its end; any other version is part of it.
        key: secret; no message contains it.
        address_setting, key_setting: the settings that errors name.
        silence_s: the maximum time between two events of a stream; a busy server makes requests wait for minutes.
        ask_timeout_s: the time limit for the list of models and the version, which a server sends at once.
    """

    url: str
    key: str | None = None
    address_setting: str = "VLLM_BASE_URL"
    key_setting: str = "VLLM_REMOTE_API_KEY"
    silence_s: float = 600.0
    ask_timeout_s: float = 10.0

    @property
    def api_url(self) -> str:
        """The address with its version."""
        return api_of(self.url)

    def without_key(self, text: str) -> str:
        """The text without the server's key."""
        return KeyFilter(self.key).whole(text)

    def plain(self, text: str) -> str:
        """Text from the server in one short line without keys, memory addresses and paths."""
        return plain(text, (self.key,))

    def unreachable(self) -> EngineUnavailable:
        """There is no server at the address."""
        return EngineUnavailable(
            f"Cannot connect to the model server at {self.url}. Start it, or set {self.address_setting} to where it is."
        )

    def lost(self) -> GenerationFailed:
        """The connection broke."""
        return GenerationFailed(
            f"The connection to the model server at {self.url} was lost before its response was complete. It may have "
            "been stopped or have crashed: try again."
        )

    def silent(self, seconds: float) -> GenerationFailed:
        """The server sent nothing for too long."""
        return GenerationFailed(
            f"The model server at {self.url} sent nothing for {seconds:g} s, so the request was ended. Try again, with "
            "a shorter prompt or a smaller max_tokens if the server is busy."
        )

    def empty(self) -> GenerationFailed:
        """The response contains neither text nor a finish reason."""
        return GenerationFailed(
            f"The model server at {self.url} sent an empty response: no text, no reason. Try again, or another "
            f"model. Check {self.address_setting} if it happens again."
        )

    def nothing(self) -> GenerationFailed:
        """The stream ended regularly, without text."""
        return GenerationFailed(
            f"The model server at {self.url} sent an empty response, or its content was lost on the way. Try again, or "
            "another model."
        )

    def unreadable(self, said: str = "") -> GenerationFailed:
        """The response has no known format; `said` is its beginning, where there is nothing else."""
        words = f" It begins: “{self.plain(said)[:200]}”." if said.strip() else ""
        return GenerationFailed(
            f"The server at {self.url} sent something that is not what an OpenAI-compatible server sends. Check "
            f"{self.address_setting}, and whether a gateway changes responses.{words}"
        )

    def unsendable_key(self) -> EngineUnavailable:
        """The key is not valid in a header."""
        return EngineUnavailable(f"{self.key_setting} contains characters that a key cannot have. Set it again.")

    def redirecting(self) -> EngineUnavailable:
        """The server redirects."""
        return EngineUnavailable(
            f"The server at {self.url} redirects to another address, which is not followed. Set "
            f"{self.address_setting} to the model server's own address."
        )

    def unusable(self, what: str) -> EngineUnavailable:
        """It is not an OpenAI-compatible server; `what` completes "answered …"."""
        return EngineUnavailable(
            f"The server at {self.url} answered {what}, which an OpenAI-compatible server does not. Check "
            f"{self.address_setting}: the address up to, with or without, /v1."
        )

    def refusal(self, status: int, headers: Mapping[str, str] | None, body: bytes | Any) -> Refusal:
        """Reads an error response; the reason does not contain the key."""
        return refusal(status, headers, body, (self.key,))

    def failure(self, said: Refusal) -> EngineError:
        """The error for a refusal."""
        status, words, blame = said.status, said.words, said.blame
        if blame is Blame.KEY:
            return self._key_refused(said)
        if blame is Blame.FUNDS and (status != 429 or said.retry_after_s is None):
            return GenerationFailed(
                f"The model server at {self.url} requires payment (HTTP {status}){words} Check the account of the "
                f"key in {self.key_setting}."
            )
        if blame is Blame.CONTENT_POLICY:
            return InvalidGeneration(
                f"The model server's content policy refuses this request (HTTP {status}){words} Change the prompt "
                "or the image."
            )
        if blame is Blame.CONTEXT:
            return self._too_long(said)
        if blame is Blame.TOO_LARGE:
            return InvalidGeneration(
                f"The request is too large for the model server (HTTP {status}){words} Send fewer or smaller images."
            )
        if blame is Blame.PROXY:
            return EngineUnavailable(
                f"The proxy of VLLM_PROXY_URL requires a user and a password (HTTP {status}){words} Write them into "
                "it: http://user:password@host:port."
            )
        if blame in (Blame.RATE, Blame.BUSY, Blame.FUNDS):
            return self._busy(said)
        if status == 404 or blame in (Blame.MODEL, Blame.ADDRESS):
            return NotFound(f"The model server refuses this request (HTTP {status}){words}", said)
        if blame in (Blame.SERVER, Blame.MEMORY):
            return Broken(f"The model server failed (HTTP {status}){words} Try again.", said)
        return Declined(f"The model server refuses this request (HTTP {status}){words}", said)

    def _key_refused(self, said: Refusal) -> EngineUnavailable:
        words = f" It says: {said.reason.rstrip('.')}." if said.reason else ""
        if not self.key:
            return EngineUnavailable(
                f"The model server at {self.url} requires a key (HTTP {said.status}). Set {self.key_setting}.{words}"
            )
        region = " A key is only valid in its own region." if host_of(self.url).endswith(DASHSCOPE_HOSTS) else ""
        return EngineUnavailable(
            f"The model server at {self.url} does not accept the key (HTTP {said.status}). Set {self.key_setting} to a "
            f"valid one, or {self.address_setting} to the server that the key is for.{region}{words}"
        )

    def _busy(self, said: Refusal) -> ServerBusy:
        wait_s = said.retry_after_s
        if said.status == 503:
            text = f"The model server is not ready (HTTP 503){said.words} Try again later."
        elif said.blame is Blame.BUSY:
            text = f"The model server failed (HTTP {said.status}){said.words} Try again."
        else:
            text = f"The model server has too many requests (HTTP {said.status}){said.words} Try again later."
        return ServerBusy(f"{text} It asks to wait {wait_s:.0f} s." if wait_s else text, wait_s)

    def _too_long(self, said: Refusal) -> EngineError:
        context, prompt = _CONTEXT.search(said.said), _PROMPT.search(said.said)
        if context is None:
            return InvalidGeneration(f"The prompt is too long for the model{said.words}")
        return PromptTooLong(
            next(int(found) for found in prompt.groups() if found) if prompt else None, int(context[1])
        )


def server_of(base_url: str, key: str | None, **fields: Any) -> RemoteServer:
    """The server at an address with or without `/v1`; `fields` are other fields of `RemoteServer`."""
    return RemoteServer(root_of(base_url), (key or "").strip() or None, **fields)
