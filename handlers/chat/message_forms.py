"""Messages and parts as clients of other APIs write them, converted to the format that this server publishes.

Clients send back assistant messages with fields of their API that have no effect here, and write images, audio and
videos in the format of OpenAI's Chat Completions or Responses API, vLLM, Qwen, Anthropic, Gemini, MCP, Ollama or the
Vercel AI SDK. Known formats are converted; everything else stays unchanged, so that validation reports it.
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
"""Fields of a message that are dropped once their content has been used: OpenAI's, those of servers with reasoning
models (ours: `reasoning`), LiteLLM's, Ollama's, Mistral's, Groq's and the Responses API's."""
IGNORED_IN_PARTS = frozenset(
    {"annotations", "cache_control", "citations", "logprobs", "_meta", "id", "uuid", "format",
     "prompt_cache_breakpoint", "min_pixels", "max_pixels", "resized_height", "resized_width", "total_pixels", "fps",
     "nframes", "min_frames", "max_frames"}
)  # fmt: skip
"""Fields of a part that are dropped; from min_pixels on Qwen's sizes and numbers of frames, which the server and the
model's processor choose here."""
IGNORED_IN_CALLS = frozenset({"index", "extra_content", "provider_specific_fields", "cache_control"})
REASONING_TYPES = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
"""Types of parts with the reasoning of an earlier reply; the model does not get it again."""
_MIME_TYPE_NAMES = ("mimeType", "mime_type", "media_type", "mediaType")
_KINDS = ("image", "audio", "video")
_BY_URL = {"audio_url": "audio", "video_url": "video", "input_video": "video"}


def canonical_message(message: Json) -> Json:
    """Converts a message to the published format if its format is known."""
    known = {name: value for name, value in message.items() if name not in IGNORED_FIELDS}
    if known.get("type") == "message":  # an item of the Responses API
        del known["type"]
    role = message.get("role")
    if isinstance(role, str):
        known["role"] = ROLES.get(role, role)
    if "content" in known:
        known["content"] = _content(known["content"])
    if isinstance(images := message.get("images"), list) and images:
        known["content"] = [*map(_data, images), *_as_parts(known.get("content"))]
    if not known.get("content") and (text := _text_outside_content(message)) is not None:
        known["content"] = text
    if isinstance(message.get("audio"), dict):  # a spoken reply is sent back by its id alone
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
    parts = [canonical_part(part) for part in content if not _is_reasoning(part)]
    return parts or ("" if content else [])


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in REASONING_TYPES


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []


def _text_outside_content(message: Json) -> str | None:
    """The text of a reply without content: a refusal, or the transcript of a spoken reply."""
    audio = message.get("audio")
    for text in (message.get("refusal"), audio.get("transcript") if isinstance(audio, dict) else None):
        if isinstance(text, str) and text:
            return text
    return None


def _legacy_calls(message: Json) -> list[Json] | None:
    """The call in OpenAI's older `function_call` format."""
    call = message.get("function_call")
    return [{"id": _legacy_id(call.get("name")), "function": call}] if isinstance(call, dict) else None


def _legacy_id(name: Any) -> str:
    """Calls in the older format have no id; the name connects the call with its result."""
    return f"function_{name}"


def _call(call: Any) -> Any:
    """A call of an assistant message."""
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
    """A call's arguments as JSON text; some services write the object itself, or nothing for no arguments."""
    if arguments is None or arguments == "":
        return "{}"
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments


def canonical_part(part: Any) -> Any:
    """Converts a part of a message to the published format if its format is known."""
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
        return _image_by_url(known)
    if kind == "input_audio" and isinstance(known.get("input_audio"), dict | str):
        return _input_audio(known)
    for name, medium in _BY_URL.items():
        if name in known and kind in (name, medium, None):
            return _by_url(known, name, medium)
    for medium in _KINDS:
        if kind == medium or (kind is None and medium in known):
            return _medium(known, medium)
    if kind in ("file", "media") and (found := _kind_of(_mime_type(known))):  # the Vercel AI SDK, LangChain
        return _medium(known, found)
    if kind is None and (gemini := _gemini(known)) is not None:
        return gemini
    if kind == "resource" and isinstance(known.get("resource"), dict):
        return _resource(known["resource"], known)
    if kind == "resource_link":
        return _linked(known)
    return known


def _image_by_url(part: Json) -> Json:
    """OpenAI's two formats: an object with the URL, or in the Responses API the URL itself."""
    image = part.get("image_url")
    detail = part.get("detail")
    rest = {name: value for name, value in part.items() if name not in ("image_url", "detail", "file_id")}
    if part.get("file_id") is not None:
        rest["file_id"] = part["file_id"]
    if isinstance(image, str):
        image = {"url": image} if detail is None else {"url": image, "detail": detail}
    elif isinstance(image, dict):
        image = {name: value for name, value in image.items() if name not in IGNORED_IN_PARTS}
    return {**rest, "type": "image_url", "image_url": image}


def _input_audio(part: Json) -> Json:
    """OpenAI's audio: base64 with its format, which is detected from the content; some services send a URL."""
    audio = part["input_audio"]
    rest = {name: value for name, value in part.items() if name not in ("type", "input_audio")}
    inner = {"data": audio} if isinstance(audio, str) else {k: v for k, v in audio.items() if k not in IGNORED_IN_PARTS}
    if isinstance(data := inner.get("data"), str) and data.startswith("http"):
        inner = {**inner, "data": None, "path": data}
    return _medium({**rest, **inner}, "audio")


def _by_url(part: Json, name: str, kind: str) -> Json:
    """vLLM's audio and videos: an object with the URL, or the URL itself."""
    url = part[name]
    rest = {key: value for key, value in part.items() if key not in ("type", name)}
    inner = {k: v for k, v in url.items() if k not in IGNORED_IN_PARTS} if isinstance(url, dict) else {"url": url}
    return _medium({**rest, **inner}, kind)


def _gemini(part: Json) -> Json | None:
    """Gemini's data or reference; `None` for another format."""
    for name in ("inlineData", "inline_data", "fileData", "file_data"):
        inner = part.get(name)
        if set(part) == {name} and isinstance(inner, dict) and (kind := _kind_of(_mime_type(inner))):
            named = {"path" if key in ("fileUri", "file_uri") else key: value for key, value in inner.items()}
            return _medium(named, kind)
    return None


def _kind_of(mime_type: Any) -> str | None:
    """The kind of media that a MIME type names."""
    kind = mime_type.partition("/")[0].strip().casefold() if isinstance(mime_type, str) else None
    return kind if kind in _KINDS else None


def _medium(part: Json, kind: str) -> Json:
    """A medium by reference or as data, in the format of MCP, Anthropic, Qwen, Hugging Face or the Vercel AI SDK."""
    source = part.get("source")
    if isinstance(source, dict):
        inner = {name: value for name, value in source.items() if name != "type"}
        return _medium({**{name: value for name, value in part.items() if name != "source"}, **inner}, kind)
    known = dict(part)
    for name in ("detail", "source_type"):  # the latter is LangChain's
        known.pop(name, None)
    mime_types = [known.pop(name) for name in _MIME_TYPE_NAMES if name in known]
    mime_type = next((one for one in mime_types if one is not None), None)
    for name in (kind, "url"):
        if known.get(name) is not None and known.get("path") is None and known.get("data") is None:
            # With a media type, a text that is not a URL is the data itself.
            is_data = mime_type is not None and isinstance(known[name], str) and not _is_url(known[name])
            known["data" if is_data else "path"] = known.pop(name)
    if isinstance(known.get("base64"), str) and known.get("data") is None:
        known["data"] = known.pop("base64")
    if mime_type is not None:
        known["mimeType"] = mime_type
    return {**known, "type": kind}


def _is_url(text: str) -> bool:
    head = text[:10].casefold()
    return "://" in head or head.startswith(("data:", "file:"))


def _mime_type(part: Json) -> Any:
    return next((part[name] for name in _MIME_TYPE_NAMES if part.get(name) is not None), None)


def _data(image: Any) -> Json:
    """An image in Ollama's format: base64 alone."""
    return {"type": "image", "data": image}


def _resource(resource: Json, part: Json) -> Json:
    """An embedded resource of MCP: text, or the bytes of an image, audio or a video."""
    if isinstance(resource.get("text"), str):
        return {"type": "text", "text": resource["text"]}
    if isinstance(resource.get("blob"), str):
        mime_type = _mime_type(resource)
        return _medium({"data": resource["blob"], "mimeType": mime_type}, _kind_of(mime_type) or "image")
    return part


def _linked(link: Json) -> Json:
    """A resource link of MCP; without a MIME type it is taken for an image."""
    mime_type = _mime_type(link)
    return _medium({"path": link.get("uri"), "mimeType": mime_type}, _kind_of(mime_type) or "image")
