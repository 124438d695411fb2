"""The table of resources: one row a kind; nothing else lists them. What the model and the sessions are is read here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from engine.errors import UnknownSession
from handlers import completions, files
from handlers.prompts import PROMPTS
from mcp_protocol.catalogues import Catalogues
from mcp_protocol.resources import Contents, Resource, ResourceKind, ResourceNotFound, ResourceTemplate
from mcp_protocol.tools import json_text
from mcp_protocol.versions import LIST_CACHE, Cache

if TYPE_CHECKING:
    from handlers.model import ModelInfo
    from handlers.services import Services

MODEL_URI = "vllm://model"
SESSIONS_BEGIN = "vllm://sessions/"
NOW = Cache(0, "private")
"""For what changes at any time and is nobody else's business."""


def catalogues(services: Services) -> Catalogues:
    """The resources, and the prompts of the families that the settings pick, over these services."""
    picked = services.settings.server.toolsets
    prompts = (prompt for prompt in PROMPTS if not picked or prompt.family in picked)
    return Catalogues(KINDS, prompts, services, prepare=services.publish_sessions)


def _list_model(services: Services) -> Iterator[Resource]:
    description = "Which model runs, whether it is loaded, its limits and the sampling defaults, as model_info tells."
    yield Resource(MODEL_URI, "model", "The model now", description, "application/json")


def _read_model(uri: str, services: Services) -> Contents:
    return Contents("application/json", msgspec.json.encode(_model_info(services)).decode(), "Call model_info.")


def _model_version(uri: str, services: Services) -> object:
    return _model_info(services)


def _model_info(services: Services) -> ModelInfo:
    from handlers.model import model_facts

    return model_facts(services)


def _list_sessions(services: Services) -> Iterator[Resource]:
    for session in services.published_sessions:
        changed = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(session.updated_s))
        yield Resource(
            SESSIONS_BEGIN + quote(session.id, safe=""),
            session.id,
            f"Conversation {session.id}",
            f"What was said in this session; last turn at {changed} UTC.",
            "application/json",
        )


def _read_session(uri: str, services: Services) -> Contents:
    from handlers.sessions import whole_session

    try:
        session = whole_session(files.variable_of(uri, SESSIONS_BEGIN), services)
    except UnknownSession:
        raise ResourceNotFound from None
    return Contents("application/json", json_text(session), "get_session shows it page by page.")


def _session_version(uri: str, services: Services) -> object:
    """When the session was made and last changed; None while it is not there, since it may come yet."""
    session_id = files.variable_of(uri, SESSIONS_BEGIN)
    return next((session for session in services.published_sessions if session.id == session_id), None)


KINDS = (
    ResourceKind(
        begin=MODEL_URI,
        resources=_list_model,
        read=_read_model,
        version=_model_version,
        cache=NOW,
    ),
    ResourceKind(
        begin=files.DOCUMENTS_BEGIN,
        resources=files.documents,
        read=files.read_document,
        version=files.document_version,
        cache=LIST_CACHE,
    ),
    ResourceKind(
        begin=files.MODELS_BEGIN,
        resources=files.cards,
        read=files.read_card,
        version=files.card_version,
        cache=LIST_CACHE,
        template=ResourceTemplate(
            "vllm://models/{model}",
            "model card",
            "Card of a model",
            "What a model on this machine can do, in its makers' words.",
            "text/markdown",
        ),
        complete={"model": completions.models},
    ),
    ResourceKind(
        begin=SESSIONS_BEGIN,
        resources=_list_sessions,
        read=_read_session,
        version=_session_version,
        cache=NOW,
        template=ResourceTemplate(
            "vllm://sessions/{session_id}",
            "session",
            "Conversation",
            "What was said in a session of chat_completion, without its pictures.",
            "application/json",
        ),
        complete={"session_id": completions.sessions},
        on_worker=True,
        key=lambda uri: files.variable_of(uri, SESSIONS_BEGIN),
    ),
    ResourceKind(
        begin="file:",
        resources=files.written_files,
        read=files.read_written_file,
        version=files.written_file_version,
        cache=NOW,
    ),
)
