"""The cause of an error response, by its status, its codes and its text."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from http_client.errors import ErrorBody, error_in, read_error
from http_client.redaction import plain


class Blame(StrEnum):
    """The cause of an error response."""

    KEY = "key"
    """The key is missing, wrong, or of another region or project."""
    FUNDS = "funds"
    """A balance or quota is used up; trying again does not help."""
    PERMISSION = "permission"
    """The key is valid, but does not allow this."""
    CONTENT_POLICY = "content policy"
    """The prompt or the generated text is not allowed."""
    MODEL = "model"
    """There is no model of that name."""
    CONTEXT = "context length"
    """Prompt and output are longer than the context."""
    TOO_LARGE = "request size"
    PARAMETER = "parameter"
    """A field of the request is unknown or not accepted; `Refusal.fields` may name it."""
    RATE = "rate limit"
    BUSY = "busy"
    """The server, or an upstream server, cannot respond now."""
    MEMORY = "memory"
    """The server is out of memory."""
    PROXY = "proxy"
    """The proxy requires a user and a password."""
    ADDRESS = "address"
    """There is no such path; it may be a different kind of server."""
    REQUEST = "request"
    """Any other error of the request."""
    SERVER = "server"
    """Any other error of the server."""


class Refusal(msgspec.Struct, frozen=True):
    """An error response.

    Attributes:
        reason: the server's message, safe to show; "" where there is none.
        said: the message as the server wrote it, for matching only: it may contain secrets.
        codes, fields: see `ErrorBody`.
        retry_after_s: how long the server asks to wait.
    """

    status: int
    blame: Blame
    reason: str = ""
    said: str = ""
    codes: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    retry_after_s: float | None = None

    @property
    def words(self) -> str:
        """The reason as the end of a sentence: ": The reason." or ", and gave no reason."."""
        return f": {self.reason.rstrip('.')}." if self.reason else ", and gave no reason."


def refusal(
    status: int, headers: Mapping[str, str] | None, body: bytes | Any, secrets: Iterable[str | None] = ()
) -> Refusal:
    """The refusal in an error response.

    Arguments:
        status: the HTTP status.
        headers: their names may be in any case.
        body: the body as bytes, or an error in a stream as decoded JSON.
        secrets: keys that `reason` must not contain.
    """
    return _refusal(status, headers, read_error(body), secrets)


def refusal_in(
    response: Any, headers: Mapping[str, str] | None = None, secrets: Iterable[str | None] = ()
) -> Refusal | None:
    """The refusal in a decoded response with status 200; `None` where it may be a regular response."""
    found = error_in(response)
    return None if found is None else _refusal(found.status or 200, headers, found, secrets)


def retry_after_s(header: str | None) -> float | None:
    """The seconds in a `Retry-After` header, a number or a date; `None` for anything else."""
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


def _refusal(
    status: int, headers: Mapping[str, str] | None, found: ErrorBody, secrets: Iterable[str | None]
) -> Refusal:
    named = {name.lower(): value for name, value in (headers or {}).items()}
    fields = found.fields + tuple(name for name in _named_fields(found.sentence) if name not in found.fields)
    codes = [code for code in found.codes if not code.isdigit() and code not in ("error", "object")]
    return Refusal(
        status=status,
        blame=_blame(status, found, bool(fields)),
        reason=plain(found.sentence, secrets) or plain(", ".join(codes), secrets),
        said=found.sentence,
        codes=found.codes,
        fields=fields,
        retry_after_s=retry_after_s(named.get("retry-after")),
    )


def _any(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_POLICY = _any(
    r"content[ _-]?(?:policy|filter|management|moderation|safety)",
    r"moderation|\bflagged\b|responsibleai|\bnsfw\b|unsafe content",
    r"data_?inspection_?failed|inappropriate content|sensitive (?:content|words?|information)",
    r"prohibited[ _](?:content|use)|usage polic(?:y|ies)|acceptable use",
    r"safety (?:checker|system|filter|policy|settings?|reasons?|guidelines)",
    r"blocked (?:by|due to|because of) .{0,40}safety",
    r"violat\w+ .{0,60}(?:polic|guideline|terms)",
)
_CONTEXT = _any(
    r"context[ _-]?(?:length|window|size)|exceeds? (?:the )?(?:available|model'?s?) context",
    r"maximum (?:model length|prompt length|input length|number of (?:input )?tokens)|longer than the model",
    r"reduce (?:the |your )?(?:length|prompt)|too many (?:input )?tokens|range of input length|input token count",
    r"(?:prompt|input|request)s? (?:is|are|was) too long|string_above_max_length|prompt_too_long",
    r"max_tokens must be at least 1, got 0\b",  # vLLM 0.32, of a prompt that fills the context to its last token
)
_FUNDS = _any(
    r"insufficient[ _](?:quota|balance|funds|credits?)|exceeded your current quota|payment[ _]required",
    r"billing|arrearage|overdue|credit balance|balance is (?:too low|not enough)",
    r"(?:out of|no|not enough|more|add) credits",
)
_KEY = _any(
    r"api[ _-]?key[ _](?:not[ _]valid|invalid|missing|not[ _]found|expired|is)|invalid_?api_?key",
    r"(?:invalid|incorrect|wrong|missing|expired|no|malformed|bad|provide an?|valid) (?:[\w-]+ ){0,2}"
    r"(?:api[ _-]?key|credentials?|access key)",
    r"(?:invalid|expired|missing|bad|malformed)[ _](?:access |auth(?:entication)? |bearer |jwt )?token\b",
    r"authentication[ _](?:error|failed|required|fail)|unauthenticated|unauthori[sz]ed|login fail",
    r"not authenticated|no auth credentials",
)
_MODEL = _any(
    r"model[_ ]not[_ ](?:found|exist)|no such model|unknown model|invalid[_ ]model\b|not a valid model",
    r"no endpoints found for|models/\S+ (?:is|was) not found|try pulling it|deploymentnotfound",
    r"model (?:name )?(?:['\"`*]?[^\s'\"`*]{1,200}['\"`*]?,? )?(?:(?:is|was|does|do|has been|could|can) )?"
    r"(?:not (?:be )?(?:found|exist|available|a valid|served|loaded|supported by)|no longer|unknown"
    r"|deprecated|decommissioned|retired|unavailable)",
    r"(?:find|load|serve|access to|unsupported) (?:the |this |requested )?model",
    r"deployment(?: for this resource)? (?:does not exist|not found)",
)
_RATE = _any(r"rate[ _-]?limit|too many requests|throttl|resource[_ ]exhausted|quota|requests per (?:minute|day)")
_MEMORY = _any(
    r"out[ -]of[ -]memory|outofmemory|can't allocate memory|cannot allocate memory|not enough memory|\bOOM\b",
    r"bad_alloc|alloc(?:ation)? failed|fail\w* to (?:re)?alloc",  # of C++ libraries
)
_BUSY = _any(
    r"overloaded|(?:is|currently|still) loading|temporarily unavailable|at capacity|try again later|no available",
    r"service unavailable|server is busy|bad gateway|gateway time",
)
UNKNOWN_FIELD = _any(
    r"unsupported|not supported|n't supported|not support|n't support|incompatible|deprecated|not implemented",
    r"unrecogni[sz]ed|not recogni[sz]ed|unknown|unexpected|extra_forbidden|extra (?:inputs|fields)",
    r"not permitted|not allowed|unavailable|not available|cannot be used|cannot both|additional propert",
    r"only the default|only \S+ (?:is|are) (?:allowed|supported)|should not exist|forbidden|disallowed",
    r"invalid (?:parameter|argument|field|key|property|option)|no such (?:parameter|argument|field|option)",
)
_QUOTED = re.compile(r"""['"`]([A-Za-z_][A-Za-z0-9_.]{1,60})['"`]|\b([a-z]+(?:_[a-z]+)+)\b""")


def _blame(status: int, found: ErrorBody, names_fields: bool) -> Blame:
    text = " ".join([found.sentence[:4_000], *found.codes])
    if status == 407:
        return Blame.PROXY
    if status == 402 or _FUNDS.search(text):
        return Blame.FUNDS
    if status == 413 and not _CONTEXT.search(text):
        return Blame.TOO_LARGE
    if status not in (401, 404, 405, 429) and status < 500 and _POLICY.search(text):
        return Blame.CONTENT_POLICY
    if status == 401:
        return Blame.KEY
    if status == 429:
        return Blame.RATE
    if _MEMORY.search(text):
        return Blame.MEMORY
    if status not in (502, 503, 504, 529) and _CONTEXT.search(text):
        return Blame.CONTEXT
    if status == 403 and not found.sentence:
        return Blame.KEY
    if status < 500 and _KEY.search(text):
        return Blame.KEY
    return _less_certain(status, text, found, names_fields)


def _less_certain(status: int, text: str, found: ErrorBody, names_fields: bool) -> Blame:
    if status in (502, 503, 504, 529):
        return Blame.BUSY
    if status == 403:
        return Blame.PERMISSION
    if status < 500 and (_MODEL.search(text) or "model" in found.fields):
        return Blame.MODEL
    if status in (200, 400, 422) and names_fields and UNKNOWN_FIELD.search(text):
        return Blame.PARAMETER
    if status in (404, 405):
        return Blame.ADDRESS
    if status in (200, 400, 408, 409, 425) and _RATE.search(text):
        return Blame.RATE
    if (status in (200, 408, 425) or status >= 500) and _BUSY.search(text):
        return Blame.BUSY
    return Blame.SERVER if status >= 500 or status == 200 else Blame.REQUEST


def _named_fields(sentence: str) -> list[str]:
    """The words of a message that look like field names."""
    found = (quoted or bare for quoted, bare in _QUOTED.findall(sentence[:2_000]))
    return list(dict.fromkeys(name.rpartition(".")[2] for name in found if not name.endswith((".", "_"))))[:16]
