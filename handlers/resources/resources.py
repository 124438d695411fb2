"""The table of resources, one row per kind; the resources of the model and the sessions are defined here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from engine.errors import UnknownSession
from handlers.resources import completions, files, media_view
from handlers.resources.prompts import PROMPTS, with_model
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.resources.resource import Contents, Resource, ResourceKind, ResourceNotFound, ResourceTemplate
from mcp_protocol.tools.toolbox import json_text
from mcp_protocol.versions import LIST_CACHE, Cache

if TYPE_CHECKING:
    from handlers.model.model import ModelInfo
    from handlers.services import Services

MODEL_URI = "vllm://model"
SESSIONS_BEGIN = "vllm://sessions/"
NOW = Cache(0, "private")
"""For resources that change at any time and are private to the client."""


def resource_registry(services: Services) -> ResourceRegistry:
    """The resources, and the prompts whose tool is on offer, with these services."""
    offered = services.settings.server.offered_tools
    prompts = [prompt for prompt in PROMPTS if prompt.tool in offered]
    if len(services.settings.engine.by_name()) > 1:
        prompts = [with_model(prompt) for prompt in prompts]
    return ResourceRegistry(KINDS, prompts, services, prepare=services.publish_sessions)


def _list_model(services: Services) -> Iterator[Resource]:
    description = "Which model runs, whether it is loaded, its limits and the sampling defaults, as in model_info."
    yield Resource(MODEL_URI, "model", "State of the model", description, "application/json")


def _read_model(uri: str, services: Services) -> Contents:
    return Contents("application/json", msgspec.json.encode(_model_info(services)).decode(), "Call model_info.")


def _model_version(uri: str, services: Services) -> object:
    return _model_info(services)


def _model_info(services: Services) -> ModelInfo:
    from handlers.model.model import model_facts

    return model_facts(services)


def _list_sessions(services: Services) -> Iterator[Resource]:
    for session in services.published_sessions:
        changed = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(session.updated_s))
        yield Resource(
            SESSIONS_BEGIN + quote(session.id, safe=""),
            session.id,
            f"Conversation {session.id}",
            f"The messages of this session; last turn at {changed} UTC.",
            "application/json",
        )


def _read_session(uri: str, services: Services) -> Contents:
    from handlers.chat.sessions import whole_session

    try:
        session = whole_session(files.variable_of(uri, SESSIONS_BEGIN), services)
    except UnknownSession:
        raise ResourceNotFound from None
    return Contents("application/json", json_text(session), "get_session returns it page by page.")


def _session_version(uri: str, services: Services) -> object:
    """When the session was created and last changed; `None` while it does not exist, since it may be created later."""
    session_id = files.variable_of(uri, SESSIONS_BEGIN)
    return next((session for session in services.published_sessions if session.id == session_id), None)


KINDS = (
    ResourceKind(prefix=MODEL_URI, resources=_list_model, read=_read_model, version=_model_version, cache=NOW),
    ResourceKind(
        prefix=files.DOCUMENTS_BEGIN,
        resources=files.documents,
        read=files.read_document,
        version=files.document_version,
        cache=LIST_CACHE,
    ),
    ResourceKind(
        prefix=files.MODELS_BEGIN,
        resources=files.cards,
        read=files.read_card,
        version=files.card_version,
        cache=LIST_CACHE,
        template=ResourceTemplate(
            "vllm://models/{model}",
            "model card",
            "Card of a model",
            "The description of a model on this machine by its authors.",
            "text/markdown",
        ),
        complete={"model": completions.models},
    ),
    ResourceKind(
        prefix=SESSIONS_BEGIN,
        resources=_list_sessions,
        read=_read_session,
        version=_session_version,
        cache=NOW,
        template=ResourceTemplate(
            "vllm://sessions/{session_id}",
            "session",
            "Conversation",
            "The messages of a chat_completion session, without images.",
            "application/json",
        ),
        complete={"session_id": completions.sessions},
        on_worker=True,
        key=lambda uri: files.variable_of(uri, SESSIONS_BEGIN),
    ),
    ResourceKind(
        prefix=media_view.VIEWS_BEGIN,
        resources=media_view.views,
        read=media_view.read_view,
        version=media_view.view_version,
        cache=Cache(3_600_000),
    ),
    ResourceKind(
        prefix="file:",
        resources=files.written_files,
        read=files.read_written_file,
        version=files.written_file_version,
        cache=NOW,
    ),
)
