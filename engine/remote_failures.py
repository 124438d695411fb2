"""What a server's refusals mean: from HTTP statuses and servers' words to our errors, with texts that are safe to show.

A server's words are passed on only as one short line of plain text, and never with the key in it.
"""

from __future__ import annotations

import email.utils
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import EngineError, EngineUnavailable, GenerationFailed, InvalidGeneration, PromptTooLong, ServerBusy
from engine.key_filter import LEAST_KEY_CHARACTERS, KeyFilter

MAX_SHOWN_CHARACTERS = 300

_VERSION_SEGMENT = re.compile(r"/v\d[^/]*(?:/|$)")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@-]+){2,}/?")
_PARAMETER = re.compile(r"\s*\(parameter=.*\)\s*$", re.DOTALL)
_KEY = re.compile(r"\b(?:sk|hf)[-_][A-Za-z0-9*_-]{6,}")

_TOO_LONG = re.compile(r"context[ _]length|maximum model length|context window|reduce the length", re.IGNORECASE)
_NO_ROOM = re.compile(r"max_tokens must be at least 1, got 0\b")
"""What vLLM (0.32) says of a prompt that fills the context to its last token: it counts what is left for the answer."""
_CONTEXT = re.compile(r"(?:context length (?:is|of)(?: only)?|maximum context length \(|model length of)\s*(\d+)")
_PROMPT = re.compile(
    r"prompt contains (\d+) (?:input )?tokens|messages resulted in (\d+)|passed (\d+) input tokens"
    r"|\((\d+) in the messages|Input length \((\d+)\)|prompt \(length (\d+)\)"
)


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
        return self.url if _VERSION_SEGMENT.search(self.url.partition("//")[2]) else f"{self.url}/v1"

    def without_key(self, text: str) -> str:
        """The text, which may come from the server, without its key."""
        return KeyFilter(self.key).whole(text)

    def plain(self, text: str) -> str:
        """What the server said, fit for a message: one line, shortened, without keys, memory addresses and paths."""
        text = self.without_key(text)
        if self.key is not None and len(self.key) >= LEAST_KEY_CHARACTERS:  # as some services show it: sk-ab***yz
            text = re.sub(re.escape(self.key[:2]) + r"[\w.-]*\*{2,}[\w.*-]*", "…", text)
        line = " ".join("".join(c if c.isprintable() else " " for c in _PARAMETER.sub("", text)).split())
        for pattern in (_KEY, _ADDRESS, _PATH):
            line = pattern.sub("…", line)
        return line if len(line) <= MAX_SHOWN_CHARACTERS else line[: MAX_SHOWN_CHARACTERS - 1] + "…"

    def unreachable(self) -> EngineUnavailable:
        """Nobody answers there."""
        return EngineUnavailable(
            f"Cannot connect to the model server at {self.url}. Start it, or set {self.address_setting} to where it is."
        )

    def untrusted(self) -> EngineUnavailable:
        """It cannot prove who it is."""
        return EngineUnavailable(
            f"The certificate of the model server at {self.url} cannot be verified. Give it one of a known authority, "
            "or on a network of your own use http."
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

    def failure(self, status: int, data: bytes, max_model_len: int | None = None) -> EngineError:
        """What an error's body says, by its status and its words; 404 is a model that is not there.

        Arguments: `max_model_len`, where it is known and the server does not tell it.
        """
        said = message_of(data)
        words = f": {self.plain(said).rstrip('.')}." if said else ", and gave no reason."
        if status == 401 or (status == 403 and not said):
            return EngineUnavailable(
                f"The model server at {self.url} "
                + (
                    f"does not take the key (HTTP {status}). Set {self.key_setting} to one that it knows."
                    if self.key
                    else f"asks for a key (HTTP {status}). Set {self.key_setting}."
                )
            )
        if status in (400, 413, 422) and (_TOO_LONG.search(said) or _NO_ROOM.search(said)):
            return self._too_long(said, words, max_model_len)
        if status == 413:
            return InvalidGeneration(
                f"The request is too large for the model server (HTTP 413){words} Send fewer or smaller pictures."
            )
        if status == 429:
            return ServerBusy(f"The model server has too many requests (HTTP 429){words} Try again later.", None)
        if status == 503:
            return ServerBusy(f"The model server is not ready (HTTP 503){words} Try again later.", None)
        if status < 500:
            return InvalidGeneration(f"The model server refuses this request (HTTP {status}){words}")
        return GenerationFailed(f"The model server failed (HTTP {status}){words} Try again.")

    def _too_long(self, said: str, words: str, max_model_len: int | None) -> EngineError:
        context, prompt = _CONTEXT.search(said), _PROMPT.search(said)
        limit = int(context[1]) if context else max_model_len
        if limit is None:
            return InvalidGeneration(f"The prompt is too long for the model{words}")
        return PromptTooLong(next(int(found) for found in prompt.groups() if found) if prompt else None, limit)


def server_of(base_url: str, key: str | None, **settings: str) -> RemoteServer:
    """The server at an address as people write it, with or without `/v1`."""
    return RemoteServer(base_url.rstrip("/").removesuffix("/v1"), (key or "").strip() or None, **settings)


def message_of(data: bytes) -> str:
    """The sentence in an error's body: OpenAI's and vLLM's `error.message`, FastAPI's `detail`; "" for all else."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = body.get("error", body) if isinstance(body, dict) else {}
    found = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    return found if isinstance(found, str) else ""


def status_of(error: Any) -> int:
    """The status that an error in the middle of a stream stands for: its `code`, else 500."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def retry_after_s(header: str | None) -> float | None:
    """The seconds that a `Retry-After` asks to wait, given as such or as a date; `None` for anything else."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
