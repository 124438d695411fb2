"""A server's list of its models, in the forms that services give it: OpenAI's, an array, Ollama's, or bare names."""

from __future__ import annotations

from typing import Any

import msgspec

_LISTS = ("data", "models", "items", "result", "results")
_NAMES = ("id", "name", "model", "model_id")
_CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length", "inputTokenLimit")


class ServedModel(msgspec.Struct, frozen=True):
    """A model that a server has: its name, who owns it, the tokens of prompt and answer together, and what it takes
    beside text in the server's words; `None` where the server does not tell."""

    id: str
    owned_by: str | None = None
    context: int | None = None
    modalities: tuple[str, ...] | None = None


def served_models(answer: Any) -> list[ServedModel] | None:
    """The models in a decoded answer; rows that name none are passed over. `None` where it is no list of models."""
    rows = _rows(answer)
    if rows is None:
        return None
    found = [model for row in rows if (model := _model(row)) is not None]
    return None if rows and not found else list({model.id: model for model in reversed(found)}.values())[::-1]


def _rows(answer: Any) -> list[Any] | None:
    if isinstance(answer, list):
        return answer
    if not isinstance(answer, dict):
        return None
    for key in _LISTS:
        inner = answer.get(key)
        if isinstance(inner, list):
            return inner
        if isinstance(inner, dict):
            rows = _rows(inner)
            return rows if rows is not None else [_named(name, row) for name, row in inner.items()]
    return None


def _named(name: Any, row: Any) -> Any:
    return {"id": name, **row} if isinstance(row, dict) else name


def _model(row: Any) -> ServedModel | None:
    if isinstance(row, str):
        return ServedModel(row) if row.strip() else None
    if not isinstance(row, dict):
        return None
    name = next((row[key] for key in _NAMES if isinstance(row.get(key), str) and row[key].strip()), None)
    if name is None:
        return None
    owner = row.get("owned_by")
    context = next((n for key in _CONTEXTS if (n := _tokens(row.get(key))) is not None), None)
    return ServedModel(name, owner if isinstance(owner, str) else None, context, _modalities(row))


def _tokens(told: Any) -> int | None:
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        number = float(told)
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 < number < 2**53 and number == int(number) else None


def _modalities(row: dict[str, Any]) -> tuple[str, ...] | None:
    architecture = row.get("architecture")
    told = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    told = row.get("input_modalities") if told is None else told
    if not isinstance(told, list) or not told or not all(isinstance(name, str) for name in told):
        return None
    return tuple(told)
