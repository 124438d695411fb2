"""Fields that a server does not accept, taken from its errors: the request is repeated without them.

Only optional fields are left out, never those that change the meaning of a response, such as `response_format` and
`tools`: then the error is raised.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from http_client.refusals import UNKNOWN_FIELD, Refusal

MAX_MODELS = 512
MAX_ATTEMPTS = 6
"""Repetitions of one request."""
_STATUSES = (200, 400, 404, 405, 415, 422, 500, 501)

_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_CALLER_FIELDS = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs", "top_k",
    "min_p", "min_tokens", "ignore_eos", "repetition_penalty", "chat_template_kwargs",
)  # fmt: skip
"""Fields that the caller may have set: leaving them out adds a warning."""
_OPTIONAL = {"stream_options", "stream", *_CALLER_FIELDS}
_TOGETHER = {"logprobs": ("top_logprobs",), "stream": ("stream_options",)}
_RANGE = re.compile(
    r"less than|greater than|\bbetween\b|at (?:most|least)|too (?:large|big|high|small|low|long)|out of range"
    r"|in \[|[<>]=? ?\d|exceed",
    re.IGNORECASE,
)
"""Errors of an invalid value: the caller must see them."""

_ONE_OF_BOTH = re.compile(r"cannot both|not both|only one", re.IGNORECASE)
"""Some models accept either `temperature` or `top_p`."""

Body = dict[str, Any]


class RefusedFields:
    """The fields that one server does not accept, by model. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()

    def without(self, body: Mapping[str, Any]) -> Body:
        """The request without the fields that its model does not accept."""
        refused = self._of(body)
        made = {name: value for name, value in body.items() if name not in refused}
        for name in refused & body.keys():
            other = _RENAMED.get(name)
            if other is not None and other not in refused:
                made[other] = body[name]
        return made

    def left_out(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields of the caller that were not sent."""
        refused = self._of(body)
        return tuple(name for name in _CALLER_FIELDS if name in refused and name in body)

    def learn(self, body: Mapping[str, Any], sent: Mapping[str, Any], refusal: Refusal) -> bool:
        """Stores the fields that an error names; returns whether any of them can be left out or renamed."""
        if refusal.status not in _STATUSES:
            return False
        named = self._named(sent, refusal)
        with self._lock:
            model = str(body.get("model"))
            refused = self._known.get(model, frozenset())
            usable = {name for name in named if name in _OPTIONAL or _RENAMED.get(name, name) not in {name, *refused}}
            if not usable:
                return False
            for name in tuple(usable):
                usable.update(_TOGETHER.get(name, ()))
            self._known[model] = refused | usable
            self._known.move_to_end(model)
            while len(self._known) > MAX_MODELS:
                self._known.popitem(last=False)
        return True

    def _of(self, body: Mapping[str, Any]) -> frozenset[str]:
        with self._lock:
            return self._known.get(str(body.get("model")), frozenset())

    def _named(self, sent: Mapping[str, Any], refusal: Refusal) -> set[str]:
        """The fields that an error names, in its `param` or in its text."""
        text = " ".join([refusal.said[:4_000], *refusal.codes])
        if _RANGE.search(refusal.said):
            return set()
        renamed = {name for name, other in _RENAMED.items() if name in sent and _mentions(other, refusal.said)}
        if renamed:
            return renamed  # such as "use max_completion_tokens instead"
        if "stream_options" in sent and _mentions("stream_options", " ".join([text, *refusal.fields])):
            return {"stream_options"}  # the completion does not depend on it
        if not UNKNOWN_FIELD.search(text):
            return set()
        names = [name for name in sent if name in _OPTIONAL or name in _RENAMED]
        if _ONE_OF_BOTH.search(refusal.said) and all(
            _mentions(name, refusal.said) for name in ("temperature", "top_p")
        ):
            return {"top_p"} & set(sent)
        named = {name for name in names if name in refusal.fields}
        return named or {name for name in names if _mentions(name, refusal.said)} - {"stream"}  # a common word


def _mentions(name: str, text: str) -> bool:
    """Whether a text contains a field's name as a word, in snake_case or camelCase."""
    return re.search(rf"(?<!\w)(?:{name}|{_camel(name)})(?!\w)", text) is not None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
