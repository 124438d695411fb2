"""What a server's refusals and failures mean for a generation, with texts that are safe to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, EngineUnavailable, GenerationFailed, InvalidGeneration, PromptTooLong, ServerBusy
from engine.key_filter import KeyFilter
from http_client.addresses import api_of, host_of, root_of
from http_client.refusals import Blame, Refusal, refusal
from http_client.words import plain

DASHSCOPE_HOSTS = ".aliyuncs.com"

_CONTEXT = re.compile(r"(?:context length (?:is|of)(?: only)?|maximum context length \(|model length of)\s*(\d+)")
_PROMPT = re.compile(
    r"prompt contains (\d+) (?:input )?tokens|messages resulted in (\d+)|passed (\d+) input tokens"
    r"|\((\d+) in the messages|Input length \((\d+)\)|prompt \(length (\d+)\)"
)


class NotFound(InvalidGeneration):
    """The server does not have the model, or not the address.

    Attributes: `refusal`, what it said.
    """

    def __init__(self, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class NoListing(EngineUnavailable):
    """The server is there, but did not tell its models; whoever knows a model's name can do without.

    Attributes: `is_absent`, whether it has no such list at all; `is_late`, whether it may still tell.
    """

    def __init__(self, message: str, *, is_absent: bool = False, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent
        self.is_late = is_late


class Declined(InvalidGeneration):
    """The server refuses the request as it is.

    Attributes: `refusal`, what it said, from which may be learned what to leave out.
    """

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal: Refusal | None = refusal


class Broken(GenerationFailed):
    """The server failed at the request, some of them at a field that they do not know.

    Attributes: `refusal`, what it said.
    """

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal: Refusal | None = refusal


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """The server as errors speak of it: its address, the key that nobody may see, and the settings of both.

    `url` is the address without a version at its end, unless that is in the middle of it or another one than `/v1`.
    """

    url: str
    key: str | None = None
    address_setting: str = "VLLM_BASE_URL"
    key_setting: str = "VLLM_REMOTE_API_KEY"

    @property
    def api_url(self) -> str:
        """Where the paths of the API begin."""
        return api_of(self.url)

    def without_key(self, text: str) -> str:
        """The text, which may come from the server, without its key."""
        return KeyFilter(self.key).whole(text)

    def plain(self, text: str) -> str:
        """What the server said, fit for a message: one line, shortened, without keys, memory addresses and paths."""
        return plain(text, (self.key,))

    def unreachable(self) -> EngineUnavailable:
        """Nobody answers there."""
        return EngineUnavailable(
            f"Cannot connect to the model server at {self.url}. Start it, or set {self.address_setting} to where it is."
        )

    def lost(self) -> GenerationFailed:
        """The connection broke in the middle."""
        return GenerationFailed(
            f"The connection to the model server at {self.url} was lost before its answer was complete. It may have "
            "been stopped or have crashed: try again."
        )

    def silent(self, seconds: float) -> GenerationFailed:
        """Nothing came for too long."""
        return GenerationFailed(
            f"The model server at {self.url} sent nothing of an answer for {seconds:g} s, so it was given up. Try "
            "again, with a shorter prompt or a smaller max_tokens if it only has much to do."
        )

    def empty(self) -> GenerationFailed:
        """An answer came, and there was nothing in it."""
        return GenerationFailed(
            f"The model server at {self.url} gave an empty answer: no text, no reason. Try again, or another "
            f"model. Check {self.address_setting} if it stays so."
        )

    def nothing(self) -> GenerationFailed:
        """It said that its answer is complete, and none had come."""
        return GenerationFailed(
            f"The model server at {self.url} gave an empty answer, or what it sent was lost on the way. Try again, or "
            "another model."
        )

    def unreadable(self, said: str = "") -> GenerationFailed:
        """What came is no answer in any form that is known; `said` is how it begins, where nothing else came."""
        words = f" It begins: “{self.plain(said)[:200]}”." if said.strip() else ""
        return GenerationFailed(
            f"The server at {self.url} sent a piece of an answer that is not what an OpenAI-compatible server sends. "
            f"Check {self.address_setting}, and whether something between here and the server changes answers.{words}"
        )

    def unsendable_key(self) -> EngineUnavailable:
        """The key cannot go into a header."""
        return EngineUnavailable(f"{self.key_setting} holds characters that no key has. Set it anew.")

    def redirecting(self) -> EngineUnavailable:
        """It names another address."""
        return EngineUnavailable(
            f"The server at {self.url} redirects to another address, which is not followed. Set "
            f"{self.address_setting} to the model server's own address."
        )

    def unusable(self, what: str) -> EngineUnavailable:
        """It is no server of this API."""
        return EngineUnavailable(
            f"The server at {self.url} answered {what}, which an OpenAI-compatible server does not. Check "
            f"{self.address_setting}: the address up to, with or without, /v1."
        )

    def refusal(self, status: int, headers: Mapping[str, str] | None, body: bytes | Any) -> Refusal:
        """What an error's body says, the key left out."""
        return refusal(status, headers, body, (self.key,))

    def failure(self, said: Refusal) -> EngineError:
        """What a refusal means for whoever asked."""
        status, words, blame = said.status, said.words, said.blame
        if blame is Blame.KEY:
            return self._key_refused(said)
        if blame is Blame.FUNDS and (status != 429 or said.retry_after_s is None):
            return GenerationFailed(
                f"The model server at {self.url} wants to be paid first (HTTP {status}){words} Look after the account "
                f"of the key in {self.key_setting}."
            )
        if blame is Blame.CONTENT_POLICY:
            return InvalidGeneration(
                f"The model server's content policy refuses this request (HTTP {status}){words} Ask in other words, or "
                "with another picture."
            )
        if blame is Blame.CONTEXT:
            return self._too_long(said)
        if blame is Blame.TOO_LARGE:
            return InvalidGeneration(
                f"The request is too large for the model server (HTTP {status}){words} Send fewer or smaller pictures."
            )
        if blame is Blame.PROXY:
            return EngineUnavailable(
                f"The proxy of VLLM_PROXY_URL asks for a user and a password (HTTP {status}){words} Write them into "
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
                f"The model server at {self.url} asks for a key (HTTP {said.status}). Set {self.key_setting}.{words}"
            )
        region = " A key holds in its own region only." if host_of(self.url).endswith(DASHSCOPE_HOSTS) else ""
        return EngineUnavailable(
            f"The model server at {self.url} does not take the key (HTTP {said.status}). Set {self.key_setting} to one "
            f"that it knows, or {self.address_setting} to the server that the key is for.{region}{words}"
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


def server_of(base_url: str, key: str | None, **settings: str) -> RemoteServer:
    """The server at an address as people write it, with or without `/v1`."""
    return RemoteServer(root_of(base_url), (key or "").strip() or None, **settings)
