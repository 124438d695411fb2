"""What tests of the remote engine ask, and of which engine."""

from __future__ import annotations

import json
from typing import Any

from engine.interface import Completion, Control, Conversation, Message, Sampling, TextPart
from engine.remote.engine import RemoteEngine
from settings import EngineSettings
from tests.scripted_openai import Route, ScriptedOpenAI, answers, piece

KEY = "sk-very-secret-0123456789"
Json = dict[str, Any]
SAID: list[Json] = [piece(content="Good"), piece(content=" day")]
DELTA = {"role": "assistant", "content": "Good day"}
SILENCE_S = 5.0
"""Longer than a busy machine may keep a thread of the server from answering."""
TOO_LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains 3000 input tokens, which "
    "exceeds this limit even without any output tokens. (parameter=input_tokens, value=3000)"
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def engine_for(server: ScriptedOpenAI, **settings: Any) -> RemoteEngine:
    """An engine over that server, which gives up after `SILENCE_S` of silence."""
    return RemoteEngine(EngineSettings(base_url=server.url, remote_api_key=KEY, **settings), silence_s=SILENCE_S)


def asked(text: str = "one two", **rest: Any) -> Conversation:
    """A conversation of one message."""
    rest.setdefault("sampling", Sampling(0.0, 16))
    return Conversation((Message("user", (TextPart(text),)),), **rest)


def answer(engine: RemoteEngine, control: Control | None = None, **rest: Any) -> Completion:
    """The answer to a single conversation."""
    (completion,) = engine.generate([asked(**rest)], control or Control())
    return completion


def call_piece(index: int, arguments: str | None = None, **rest: Any) -> dict[str, Any]:
    """One event with a piece of a tool call."""
    function = {key: rest.pop(key) for key in ("name",) if key in rest}
    return piece(tool_calls=[{"index": index, **rest, "function": {**function, "arguments": arguments}}])


def raw(body: str | bytes, content_type: str = "text/event-stream", **headers: str) -> Route:
    """A route that sends a whole body, its length told."""
    return answers(body if isinstance(body, bytes) else body.encode(), 200, Content_Type=content_type, **headers)


def lines(*events: Json | str, prefix: str = "data: ", end: str = "\n\n") -> str:
    """Events as text."""
    return "".join(prefix + (each if isinstance(each, str) else json.dumps(each)) + end for each in events)
