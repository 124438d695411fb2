"""A server's list of its models, in the forms that servers use: OpenAI's, an array, Ollama's, an object, bare names."""

from __future__ import annotations

from typing import Any

import msgspec

from http_client.loose_json import count

_LISTS = ("data", "models", "items", "result", "results", "object")
_NAMES = ("id", "name", "model", "model_name", "model_id")
_CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length", "inputTokenLimit")


class ServedModel(msgspec.Struct, frozen=True):
    """A model that a server offers; `None` stands for what the server does not report.

    Attributes:
        id: its name on the server.
        owned_by: OpenAI's field; vLLM reports `vllm`.
        context_length: tokens of prompt and output together.
        modalities: what it accepts: text, image, audio, video.
        root: the name or folder that the server loaded it from.
    """

    id: str
    owned_by: str | None = None
    context_length: int | None = None
    modalities: tuple[str, ...] | None = None
    root: str | None = None

    @property
    def shown(self) -> str:
        """The name without the folders of the server's machine, which are private."""
        return self.id.rstrip("/").rpartition("/")[2] if self.id.startswith("/") else self.id

    def accepts(self, modality: str) -> bool | None:
        """Whether the model accepts text, image, audio or video; `None` where that is not known."""
        return None if self.modalities is None else modality in self.modalities


def served_models(response: Any) -> list[ServedModel] | None:
    """The models in a decoded response; rows without a name are skipped. `None` where it is not a list of models."""
    rows = _rows(response)
    if rows is None:
        return None
    models: dict[str, ServedModel] = {}
    for row in rows:
        if (model := _model(row)) is not None:
            models.setdefault(model.id, model)
    return None if rows and not models else list(models.values())


def first_model(response: Any) -> ServedModel | None:
    """The first model in a decoded response, which may also be a single row; `None` where there is no model."""
    models = served_models(response) or served_models([response])
    return models[0] if models else None


def _rows(response: Any) -> list[Any] | None:
    if isinstance(response, list):
        return response
    if not isinstance(response, dict):
        return None
    inner = next((response[key] for key in _LISTS if isinstance(response.get(key), list | dict)), None)
    if not isinstance(inner, dict):
        return inner
    if _name(inner) is not None:
        return [inner]
    rows = _rows(inner)
    if rows is not None:
        return rows
    return [{"id": name, **row} if isinstance(row, dict) else name for name, row in inner.items()]


def _name(row: dict[str, Any]) -> str | None:
    return next((row[key] for key in _NAMES if isinstance(row.get(key), str) and row[key].strip()), None)


def _model(row: Any) -> ServedModel | None:
    if isinstance(row, str):
        return ServedModel(row) if row.strip() else None
    name = _name(row) if isinstance(row, dict) else None
    if name is None:
        return None
    context_length = next((n for key in _CONTEXTS if (n := count(row.get(key)))), None)
    return ServedModel(name, _text(row.get("owned_by")), context_length, _modalities(row), _text(row.get("root")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _modalities(row: dict[str, Any]) -> tuple[str, ...] | None:
    architecture = row.get("architecture")
    names = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    names = row.get("input_modalities") if names is None else names
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
