"""What a server does not take in a request, learned from its refusals: the request is sent once more without it.

Only fields that an answer does without are left out. What an answer's meaning depends on, such as `response_format` and
`tools`, never is: then the refusal stands.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from http_client.refusals import UNKNOWN_FIELD, Refusal

MOST_MODELS = 512
MOST_LESSONS = 6
"""From one request: each costs a try."""
_STATUSES = (200, 400, 404, 405, 415, 422, 500, 501)

_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_TOLD = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs", "top_k",
    "min_p", "min_tokens", "ignore_eos", "repetition_penalty", "chat_template_kwargs",
)  # fmt: skip
"""Those that a caller may have asked for, and is told of."""
_OPTIONAL = {"stream_options", "stream", *_TOLD}
_TOGETHER = {"logprobs": ("top_logprobs",), "stream": ("stream_options",)}
_RANGE = re.compile(
    r"less than|greater than|\bbetween\b|at (?:most|least)|too (?:large|big|high|small|low|long)|out of range"
    r"|in \[|[<>]=? ?\d|exceed",
    re.IGNORECASE,
)
"""Of a value that is wrong in itself: whoever asked for it must know."""

_ONE_OF_BOTH = re.compile(r"cannot both|not both|only one", re.IGNORECASE)
"""Some models take `temperature` or `top_p`."""

Body = dict[str, Any]


class RefusedFields:
    """What one server does not take, by model. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()

    def without(self, body: Mapping[str, Any]) -> Body:
        """The request as its model is known to take it."""
        refused = self._of(body)
        made = {name: value for name, value in body.items() if name not in refused}
        for name in refused & body.keys():
            other = _RENAMED.get(name)
            if other is not None and other not in refused:
                made[other] = body[name]
        return made

    def left_out(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """What of a request was not sent though a caller may have wanted it."""
        refused = self._of(body)
        return tuple(name for name in _TOLD if name in refused and name in body)

    def learn(self, body: Mapping[str, Any], sent: Mapping[str, Any], refusal: Refusal) -> bool:
        """Whether a refusal names something of what was sent that can be left out or renamed; it is then remembered."""
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
            while len(self._known) > MOST_MODELS:
                self._known.popitem(last=False)
        return True

    def _of(self, body: Mapping[str, Any]) -> frozenset[str]:
        with self._lock:
            return self._known.get(str(body.get("model")), frozenset())

    def _named(self, sent: Mapping[str, Any], refusal: Refusal) -> set[str]:
        """The fields of a request that a refusal blames: as told in so many words, else as they stand in its text."""
        text = " ".join([refusal.said[:4_000], *refusal.codes])
        if _RANGE.search(refusal.said):
            return set()
        renamed = {name for name, other in _RENAMED.items() if name in sent and _stands(other, refusal.said)}
        if renamed:
            return renamed  # "use max_completion_tokens instead", in whatever words
        if "stream_options" in sent and _stands("stream_options", " ".join([text, *refusal.fields])):
            return {"stream_options"}  # nothing of an answer depends on it
        if not UNKNOWN_FIELD.search(text):
            return set()
        names = [name for name in sent if name in _OPTIONAL or name in _RENAMED]
        if _ONE_OF_BOTH.search(refusal.said) and all(_stands(name, refusal.said) for name in ("temperature", "top_p")):
            return {"top_p"} & set(sent)
        told = {name for name in names if name in refusal.fields}
        if told:
            return told
        found = {name for name in names if _stands(name, refusal.said)}
        return found - {"stream"}  # an everyday word


def _stands(name: str, text: str) -> bool:
    """Whether a field's name stands in a text, by itself and in either spelling."""
    return re.search(rf"(?<!\w)(?:{name}|{_camel(name)})(?!\w)", text) is not None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
