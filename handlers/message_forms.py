"""Messages and their parts as clients of other APIs write them, brought to the form that this server publishes.

Clients echo an assistant's message as it came, with fields of their API that mean nothing here, and name pictures in
the way of OpenAI's Chat Completions or Responses API, Qwen, Anthropic, MCP, Ollama or the Vercel AI SDK. What is known
is brought to one form; everything else stays as it is, so that the usual error names it.
"""

from __future__ import annotations

import json
from typing import Any

from mcp_protocol.jsonrpc import Json

ROLES = {"developer": "system", "function": "tool"}
IGNORED_FIELDS = frozenset(
    {"name", "refusal", "annotations", "audio", "function_call", "reasoning_content", "reasoning", "reasoning_details",
     "thinking", "thinking_blocks", "images", "parsed", "id", "status", "phase", "cache_control", "_meta", "metadata",
     "provider_specific_fields", "tool_name", "prefix", "executed_tools"}
)  # fmt: skip
"""Fields of a message that are dropped, after what they can mean was read: OpenAI's, those of servers with reasoning
models (ours: `reasoning`), LiteLLM's, Ollama's, Mistral's, Groq's and the Responses API's."""
IGNORED_IN_PARTS = frozenset(
    {"annotations", "cache_control", "citations", "logprobs", "_meta", "id", "uuid", "format",
     "prompt_cache_breakpoint", "min_pixels", "max_pixels", "resized_height", "resized_width"}
)  # fmt: skip
"""Fields of a part that are dropped; the last four are Qwen's, whose sizes the model's own processing chooses here."""
IGNORED_IN_CALLS = frozenset({"index", "extra_content", "provider_specific_fields", "cache_control"})
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
"""Kinds of parts that hold what an earlier answer was reasoned from; models are not shown it again."""
_MIME_TYPE_NAMES = ("mimeType", "mime_type", "media_type", "mediaType")


def canonical_message(message: Json) -> Json:
    """A message in the published form, as far as its form is known."""
    known = {name: value for name, value in message.items() if name not in IGNORED_FIELDS}
    if known.get("type") == "message":  # an item of the Responses API
        del known["type"]
    role = message.get("role")
    if isinstance(role, str):
        known["role"] = ROLES.get(role, role)
    if "content" in known:
        known["content"] = _content(known["content"])
    if isinstance(pictures := message.get("images"), list) and pictures:
        known["content"] = [*map(_data, pictures), *_as_parts(known.get("content"))]
    if not known.get("content") and (text := _text_beside(message)) is not None:
        known["content"] = text
    if isinstance(message.get("audio"), dict):  # an answer that was spoken is echoed by its id alone
        known.setdefault("content", None)
    calls = message.get("tool_calls") or _legacy_calls(message)
    if isinstance(calls, list):
        known["tool_calls"] = [_call(call) for call in calls]
        if calls and known.get("content") == []:
            known["content"] = None
    if role == "function" and "tool_call_id" not in known:
        known["tool_call_id"] = _legacy_id(message.get("name"))
    return known


def _content(content: Any) -> Any:
    if isinstance(content, dict):  # one block, as in MCP's messages
        content = [content]
    if not isinstance(content, list):
        return content
    thought_of = any(_is_thought(part) for part in content)
    parts = [canonical_part(part) for part in content if not _is_thought(part)]
    return parts or ("" if thought_of else [])


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in THOUGHTS


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []


def _text_beside(message: Json) -> str | None:
    """An answer that is told outside of the content: a refusal, or the words of a spoken one."""
    audio = message.get("audio")
    for text in (message.get("refusal"), audio.get("transcript") if isinstance(audio, dict) else None):
        if isinstance(text, str) and text:
            return text
    return None


def _legacy_calls(message: Json) -> list[Json] | None:
    """The one call of OpenAI's older form."""
    call = message.get("function_call")
    return [{"id": _legacy_id(call.get("name")), "function": call}] if isinstance(call, dict) else None


def _legacy_id(name: Any) -> str:
    """Calls of the older form have no id; a name joins the call and its answer."""
    return f"function_{name}"


def _call(call: Any) -> Any:
    """A call of an assistant's message."""
    if not isinstance(call, dict):
        return call
    known = {name: value for name, value in call.items() if name not in IGNORED_IN_CALLS}
    if "function" not in known and "name" in known and "args" in known:  # LangChain
        known = {"id": known.get("id"), "function": {"name": known["name"], "arguments": known["args"]}}
    known["type"] = "function" if known.get("type") is None else known["type"]
    function = known.get("function")
    if isinstance(function, dict):
        known["function"] = {**function, "arguments": _arguments(function.get("arguments"))}
    return known


def _arguments(arguments: Any) -> Any:
    """A call's arguments as the JSON text of an object; some services write the object itself, or nothing for none."""
    if arguments is None or arguments == "":
        return "{}"
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments


def canonical_part(part: Any) -> Any:
    """A part of a message's content in the published form, as far as its form is known."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, dict):
        return part
    known = {name: value for name, value in part.items() if name not in IGNORED_IN_PARTS}
    kind = known.get("type")
    if kind in ("text", "input_text", "output_text") or (kind is None and set(known) == {"text"}):
        return {**known, "type": "text"}
    if kind == "refusal" and isinstance(known.get("refusal"), str):
        return {"type": "text", "text": known["refusal"]}
    if kind in ("image_url", "input_image") or (kind in ("image", None) and "image_url" in known):
        return _picture_by_url(known)
    if kind == "image" or (kind is None and "image" in known):
        return _picture(known)
    if kind == "file" and str(_mime_type(known)).startswith("image/"):  # the Vercel AI SDK
        return _picture({**known, "type": "image"})
    if kind == "resource" and isinstance(known.get("resource"), dict):
        return _resource(known["resource"], known)
    if kind == "resource_link":
        return _linked(known)
    return known


def _picture_by_url(part: Json) -> Json:
    """OpenAI's two forms: an object with the URL, or in the Responses API the URL itself."""
    picture = part.get("image_url")
    detail = part.get("detail")
    rest = {name: value for name, value in part.items() if name not in ("image_url", "detail", "file_id")}
    if part.get("file_id") is not None:
        rest["file_id"] = part["file_id"]
    if isinstance(picture, str):
        picture = {"url": picture} if detail is None else {"url": picture, "detail": detail}
    elif isinstance(picture, dict):
        picture = {name: value for name, value in picture.items() if name not in IGNORED_IN_PARTS}
    return {**rest, "type": "image_url", "image_url": picture}


def _picture(part: Json) -> Json:
    """A picture by reference or as data, in the words of MCP, Anthropic, Qwen, Hugging Face or the Vercel AI SDK."""
    source = part.get("source")
    if isinstance(source, dict):
        inner = {name: value for name, value in source.items() if name != "type"}
        return _picture({**{name: value for name, value in part.items() if name != "source"}, **inner})
    known = dict(part)
    for name in ("detail", "source_type"):  # the latter is LangChain's
        known.pop(name, None)
    mime_types = [known.pop(name) for name in _MIME_TYPE_NAMES if name in known]
    mime_type = next((one for one in mime_types if one is not None), None)
    for name in ("image", "url"):
        if known.get(name) is not None and known.get("path") is None and known.get("data") is None:
            # With a media type beside it, what does not look like an address is the data itself.
            is_data = mime_type is not None and isinstance(known[name], str) and not _is_address(known[name])
            known["data" if is_data else "path"] = known.pop(name)
    if isinstance(known.get("base64"), str) and known.get("data") is None:
        known["data"] = known.pop("base64")
    if mime_type is not None:
        known["mimeType"] = mime_type
    return {**known, "type": "image"}


def _is_address(text: str) -> bool:
    head = text[:10].casefold()
    return "://" in head or head.startswith(("data:", "file:"))


def _mime_type(part: Json) -> Any:
    return next((part[name] for name in _MIME_TYPE_NAMES if part.get(name) is not None), None)


def _data(picture: Any) -> Json:
    """A picture of Ollama's: base64 alone."""
    return {"type": "image", "data": picture}


def _resource(resource: Json, part: Json) -> Json:
    """What an MCP server embedded: text, or a picture's bytes."""
    if isinstance(resource.get("text"), str):
        return {"type": "text", "text": resource["text"]}
    if isinstance(resource.get("blob"), str):
        return _picture({"data": resource["blob"], "mimeType": _mime_type(resource)})
    return part


def _linked(link: Json) -> Json:
    """What an MCP server links to; only pictures are read, which its media type or its bytes tell."""
    return _picture({"path": link.get("uri"), "mimeType": _mime_type(link)})
