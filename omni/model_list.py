"""Which model a server serves, from a list in any of the forms that servers have."""

from __future__ import annotations

from typing import Any

import msgspec

_LISTS = ("data", "models", "result", "object")
_NAMES = ("id", "name", "model", "model_name", "model_id")


class ServedModel(msgspec.Struct, frozen=True):
    """The model that a server serves: its name there, and where the server has it from."""

    id: str
    root: str | None = None

    @property
    def shown(self) -> str:
        """The name without the folders of the machine that serves it, which are nobody's business."""
        return self.id.rstrip("/").rpartition("/")[2] if self.id.startswith("/") else self.id


def first_model(answer: Any) -> ServedModel | None:
    """The first model of a decoded list, whatever is around it; None where there is none.

    A list may be bare or in a field, and its rows objects or names; rows that are neither are passed over.
    """
    if isinstance(answer, dict):
        found = next((answer[name] for name in _LISTS if isinstance(answer.get(name), list | dict)), None)
        answer = [answer] if found is None else found if isinstance(found, list) else _rows(found)
    rows = answer if isinstance(answer, list) else []
    return next((model for model in map(_model, rows) if model is not None), None)


def _rows(found: dict[str, Any]) -> list[Any]:
    """The rows of an object that is one row, or has one for each name."""
    if any(isinstance(found.get(name), str) for name in _NAMES):
        return [found]
    return [{"id": name, **row} if isinstance(row, dict) else name for name, row in found.items()]


def _model(row: Any) -> ServedModel | None:
    if isinstance(row, str):
        return ServedModel(row) if row.strip() else None
    if not isinstance(row, dict):
        return None
    name = next((row[key] for key in _NAMES if isinstance(row.get(key), str) and row[key].strip()), None)
    root = row.get("root")
    return None if name is None else ServedModel(name, root if isinstance(root, str) else None)
