"""Events that are not in OpenAI's format.

Servers in use send: content as a list of parts (Mistral), whole messages instead of deltas, counts as null or text,
calls without an index or with arguments as an object, `thinking`, the older `text` and `function_call`, and the formats
of Ollama's and DashScope's own APIs behind gateways.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from engine.remote.chunks import (
    CallPiece,
    Choice,
    Chunk,
    Delta,
    FunctionPiece,
    LikelyToken,
    PromptDetails,
    TokenEntries,
    TokenEntry,
    TokenUsage,
)
from http_client.errors import error_in
from http_client.loose_json import count

MAX_DEPTH = 6
_WRAPPERS = ("data", "chunk", "result", "output", "response", "completion")
_REASONING = ("reasoning", "reasoning_content", "thinking", "reasoning_text", "reasoning_details")
_REASONING_PARTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "redacted_thinking", "summary_text")
_BROKEN = ("error", "failed", "abort", "aborted")
_TEXTS = ("text", "content", "value", "output_text", "input_text", "refusal", "thinking", "reasoning", "summary")


def understood(value: Any) -> list[Chunk]:
    """The events in a decoded JSON text; none where it is not an object, such as a keep-alive."""
    if isinstance(value, list):
        return [chunk for entry in value if isinstance(entry, dict) for chunk in understood(entry)]
    if not isinstance(value, dict):
        return []
    chunk = _chunk(value)
    choice = chunk.choices[0] if chunk.choices else None
    error = value.get("error") or (choice.error if choice is not None else None)
    if choice is None or not error or (choice.finish_reason or "").lower() not in _BROKEN:
        return [chunk]
    # The last text before the failure, and then its reason.
    last = msgspec.structs.replace(choice, finish_reason=None, is_whole=False, error=None)
    return [msgspec.structs.replace(chunk, choices=[last]), Chunk(error=error)]


def _chunk(value: dict[str, Any]) -> Chunk:
    choices = _choices(value)
    if choices and choices[0].error is not None and not value.get("error"):
        value = {**value, "error": choices[0].error}
    for wrapper in _WRAPPERS:
        inner = value.get(wrapper)
        if not choices and isinstance(inner, dict):
            choices = _choices(inner)
    usage = _usage(value)
    if not choices and (value.get("error") or (usage is None and error_in(value, is_whole=False) is not None)):
        return Chunk(error=value)
    if value.get("error") and not any(_says(choice) for choice in choices):
        return Chunk(error=value)
    return Chunk(choices, usage)


def _says(choice: Choice) -> bool:
    delta = choice.delta
    return delta is not None and bool(delta.content or delta.refusal or delta.reasoning or delta.tool_calls)


def _choices(value: dict[str, Any]) -> list[Choice]:
    found = value.get("choices")
    if isinstance(found, dict):
        found = [found]
    if isinstance(found, list):
        return [_choice(entry) for entry in found if isinstance(entry, dict)][:1]
    if isinstance(value.get("message"), dict) and ("done" in value or "content" in value["message"]):  # Ollama's own
        ended = value.get("done_reason") or ("stop" if value.get("done") is True else None)
        return [Choice(_delta(value["message"]), None, _word(ended))]
    if value.get("role") == "assistant" and value.get("content"):  # Anthropic's own, not streamed
        return [Choice(_delta(value), None, _word(value.get("stop_reason")) or "stop")]
    for key in ("response", "text", "generated_text"):
        if isinstance(value.get(key), str) and not value.get("error"):
            ended = value.get("done_reason") or value.get("finish_reason") or ("stop" if value.get("done") else None)
            return [Choice(Delta(value[key]), None, _word(ended))]
    if isinstance(value.get("delta"), dict):
        return [_choice(value)]
    return []


def _choice(value: dict[str, Any]) -> Choice:
    delta, message, is_whole = value.get("delta"), value.get("message"), False
    ended = _word(value.get("finish_reason")) or _word(value.get("finishReason"))
    made = _of_any(delta)
    if made is None and message is not None:
        made, is_whole = _of_any(message), True
    if made is None and value.get("text") is not None:
        made = Delta(_text(value["text"], 0) or None)
    made, logprobs = made if made is not None else Delta(), _logprobs(value.get("logprobs"))
    return Choice(made, logprobs, ended, is_whole, value.get("error") or None)


def _of_any(delta: Any) -> Delta | None:
    """A delta or a message; `None` where it is empty."""
    if isinstance(delta, str):
        return Delta(delta) if delta else None
    if isinstance(delta, list):
        return _of_any({"content": delta})
    if not isinstance(delta, dict):
        return None
    made = _delta(delta)
    return made if made != Delta() else None


def _delta(value: dict[str, Any]) -> Delta:
    content = value.get("content")
    text = _text(content, 0) if content is not None else _text(value.get("text"), 0)
    reasoning = next((said for key in _REASONING if (said := _reasoning(value.get(key)))), "")
    reasoning += _thoughts(content)
    calls = value.get("tool_calls")
    pieces = [_call(entry) for entry in ([calls] if isinstance(calls, dict) else _listed(calls))]
    if isinstance(value.get("function_call"), dict):
        pieces.append(_call({"index": 0, "function": value["function_call"]}))
    found = [piece for piece in pieces if piece is not None]
    refusal = _text(value.get("refusal"), 0)
    return Delta(text or None, refusal or None, reasoning or None, None, found or None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any, depth: int) -> str:
    """The text of a content in any form, without its reasoning."""
    if isinstance(value, str):
        return value
    if depth > MAX_DEPTH or isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "".join(_text(entry, depth + 1) for entry in value)
    if not isinstance(value, dict) or value.get("type") in _REASONING_PARTS:
        return ""
    return next((text for key in _TEXTS if (text := _text(value.get(key), depth + 1))), "")


def _reasoning(value: Any) -> str:
    if isinstance(value, list):
        return "".join(_reasoning(entry) for entry in value)
    if isinstance(value, dict):
        return next((text for key in _TEXTS if (text := _reasoning(value.get(key)))), "")
    return value if isinstance(value, str) else ""


def _thoughts(content: Any) -> str:
    """The reasoning in a list of parts."""
    parts = content if isinstance(content, list) else [content]
    return "".join(
        _reasoning(part) for part in parts if isinstance(part, dict) and part.get("type") in _REASONING_PARTS
    )


def _call(value: Any) -> CallPiece | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    fields = function if isinstance(function, dict) else value
    name = fields.get("name") if fields.get("name") is not None else (function if isinstance(function, str) else None)
    arguments = fields.get("arguments", fields.get("input", fields.get("parameters")))
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    called = value.get("id") or value.get("tool_call_id")
    return CallPiece(
        count(value.get("index")),
        str(called) if isinstance(called, str | int) and called != "" else None,
        FunctionPiece(name if isinstance(name, str) else None, arguments),
    )


def _word(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    return value if isinstance(value, str) and value.lower() not in ("", "null", "none") else None


def _usage(value: dict[str, Any]) -> TokenUsage | None:
    usage = next((entry for key in ("usage", "x_groq") if isinstance(entry := value.get(key), dict)), value)
    if isinstance(usage.get("usage"), dict):
        usage = usage["usage"]
    prompt = _first_whole(usage, "prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokens")
    completion = _first_whole(usage, "completion_tokens", "output_tokens", "eval_count", "completionTokens")
    if prompt is None and completion is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    made = None
    if isinstance(details, dict):
        kinds = details.get("multimodal_tokens")
        counted = {name: n for name, value in (kinds.items() if isinstance(kinds, dict) else ()) if (n := count(value))}
        made = PromptDetails(count(details.get("cached_tokens")), counted or None)
    return TokenUsage(prompt or 0, completion or 0, made)


def _first_whole(value: dict[str, Any], *keys: str) -> int | None:
    return next((n for key in keys if (n := count(value.get(key))) is not None), None)


def _logprobs(value: Any) -> TokenEntries | None:
    """The log-probabilities, where all of them are valid: a partial list would have wrong positions."""
    entries = value.get("content") if isinstance(value, dict) else None
    try:
        return TokenEntries(msgspec.convert(list(_with_figures(entries or ())), list[TokenEntry]))
    except (msgspec.ValidationError, TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None


def _with_figures(entries: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for entry in entries:
        top = [LikelyToken(each["token"], float(each["logprob"])) for each in entry.get("top_logprobs") or () if each]
        yield {"token": entry["token"], "logprob": float(entry["logprob"]), "top_logprobs": top}
