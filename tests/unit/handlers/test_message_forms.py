from __future__ import annotations

import base64
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from handlers.chat.message_forms import canonical_message, canonical_part
from media.image import DecodedImage, ImageReader
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client, Json, user

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def heard(client: Client, *messages: Json, **arguments: Any) -> list[tuple[str, str]]:
    """What the engine was told when these messages were sent: role and text of each."""
    client.result("chat_completion", {"messages": list(messages), **arguments})
    return texts_of(client.engine.conversations[-1])


# Messages


@pytest.mark.parametrize(
    "echoed",
    [
        {
            "content": "Hi!",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        },
        {"content": "Hi!", "reasoning_content": None},
        {"content": "Hi!", "reasoning_content": "They greet me.", "reasoning": "They greet me."},
        {"content": "Hi!", "reasoning_details": [{"type": "reasoning.text", "text": "x"}], "tool_calls": []},
        {"content": "Hi!", "name": "helper", "provider_specific_fields": {"a": 1}, "thinking_blocks": None},
        {
            "content": [{"type": "output_text", "text": "Hi!", "annotations": [], "logprobs": []}],
            "type": "message",
            "id": "msg_1",
            "status": "completed",
        },
        {"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Hi!"}]},
        {"content": {"type": "text", "text": "Hi!"}, "prefix": False, "executed_tools": None},
        {"content": ["Hi!"]},
        {"content": None, "refusal": "Hi!"},
        {"content": [{"type": "refusal", "refusal": "Hi!"}]},
        {"content": None, "audio": {"id": "audio_1", "expires_at": 1, "data": "AA==", "transcript": "Hi!"}},
    ],
)
def test_assistants_message_is_taken_as_it_came(client: Client, echoed: Json) -> None:
    said = heard(client, user("Hello"), {"role": "assistant", **echoed}, user("again"))
    assert said == [("user", "Hello"), ("assistant", "Hi!"), ("user", "again")]


@pytest.mark.parametrize(
    "extra",
    [
        {"content": None},
        {"content": None, "refusal": None, "audio": None, "reasoning_content": "I think so."},
        {"audio": {"id": "audio_1"}},
    ],
)
def test_answer_without_a_word_can_be_echoed(client: Client, extra: Json) -> None:
    said = heard(client, user("Hello"), {"role": "assistant", **extra}, user("again"))
    assert said == [("user", "Hello"), ("assistant", ""), ("user", "again")]


def test_our_own_result_can_be_echoed(client: Client) -> None:
    client.engine.enqueue("Hi!", reasoning="They greet me.")
    result = client.chat("Hello")
    echoed = {
        "role": "assistant",
        "content": result.text,
        "tool_calls": result.tool_calls,
        "reasoning": "They greet me.",
    }
    assert heard(client, user("Hello"), echoed, user("again"))[1] == ("assistant", "Hi!")


def test_developer_is_the_newer_word_for_system(client: Client) -> None:
    said = heard(client, {"role": "developer", "content": "Be brief."}, {**user("Hello"), "name": "ann"})
    assert said == [("system", "Be brief."), ("user", "Hello")]


@pytest.mark.parametrize("arguments", [{"tools": []}, {"tools": None}, {"tools": [], "tool_choice": "none"}])
def test_no_tools_may_be_said_in_so_many_words(client: Client, arguments: Json) -> None:
    assert heard(client, user("Hello"), **arguments) == [("user", "Hello")]


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
@pytest.mark.parametrize(
    "calls",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": [{**CALL, "index": 0, "type": None, "extra_content": {"google": {}}}]},
        {"tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Bern"}}}]},
        {"tool_calls": [{"id": "call_1", "name": "weather", "args": {"city": "Bern"}, "type": "tool_call"}]},
    ],
)
def test_calls_of_an_assistant_are_taken_as_services_write_them(client: Client, content: Json, calls: Json) -> None:
    heard(client, user("Weather?"), {"role": "assistant", **content, **calls}, {**RESULT, "name": "weather"})
    _, assistant, tool = client.engine.conversations[-1].messages
    (call,) = assistant.tool_calls
    assert (call.id, call.name, call.arguments) == ("call_1", "weather", '{"city": "Bern"}')
    assert not assistant.content or texts_of(client.engine.conversations[-1])[1] == ("assistant", "")
    assert tool.tool_call_id == "call_1"


@pytest.mark.parametrize("nothing", ["", None, {}])
def test_call_without_arguments_has_an_empty_object(client: Client, nothing: Any) -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": nothing}}
    heard(
        client, user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}, RESULT
    )
    assert client.engine.conversations[-1].messages[1].tool_calls[0].arguments == "{}"


def test_older_form_of_calls_is_joined_by_its_name(client: Client) -> None:
    called = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    heard(client, user("Weather?"), called, {"role": "function", "name": "weather", "content": "sunny"})
    _, assistant, tool = client.engine.conversations[-1].messages
    assert assistant.tool_calls[0].name == "weather"
    assert (tool.role, tool.tool_call_id) == ("tool", assistant.tool_calls[0].id)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": "a", "colour": "red"}, "arguments.messages[0]: object contains unknown field"),
        (
            {"role": "robot", "content": "a", "refusal": None},
            "arguments.messages[0].role: invalid enum value 'robot'; known: ",
        ),
        ({"role": ["user"], "content": "a"}, "arguments.messages[0].role: expected str"),
        ({"role": "user", "content": []}, "arguments.messages[0].content: expected array of length >= 1"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "arguments.messages[0].content[0].type: expected str"),
        (
            {"role": "user", "content": [{"type": "hologram", "hologram": "x"}]},
            "arguments.messages[0].content[0].type: invalid",
        ),
        ({"role": "user", "content": [5]}, "arguments.messages[0].content[0]: expected object"),
        (
            {"role": "user", "content": [{"type": "text", "text": 5}]},
            "arguments.messages[0].content[0].text: expected str",
        ),
        (
            {"role": "user", "content": [{"type": "image", "source": 5}]},
            "arguments.messages[0].content[0]: object contains",
        ),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "arguments.messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "resource", "resource": {}}]}, "arguments.messages[0].content[0].type"),
        (
            {"role": "user", "content": [{"type": "image", "path": "a", "image": "b"}]},
            "arguments.messages[0].content[0]",
        ),
    ],
)
def test_what_is_not_known_is_named_as_before(client: Client, message: Json, words: str) -> None:
    assert client.error("chat_completion", {"messages": [message]}).startswith(words)
    assert client.engine.n_loads == 0


def test_message_of_the_caller_stays_as_it_was() -> None:
    message = {"role": "developer", "content": [{"type": "image", "image": "a"}], "name": "x", "tool_calls": [{**CALL}]}
    before = repr(message)
    canonical_message(message)
    assert repr(message) == before


# Images


def image_forms(path: str, data: str) -> dict[str, Json]:
    """One image in all forms, but those that need a network."""
    url = f"data:image/png;base64,{data}"
    file_url = f"file://{path}"
    return {
        "path: file URL": {"type": "image", "path": file_url},
        "path: data URL": {"type": "image", "path": url},
        "OpenAI, path": {"type": "image_url", "image_url": {"url": path}},
        "OpenAI, text": {"type": "image_url", "image_url": file_url},
        "OpenAI, extras": {
            "type": "image_url",
            "image_url": {"url": url, "detail": None, "format": "png"},
            "uuid": "1",
        },
        "OpenAI Responses": {"type": "input_image", "image_url": url, "detail": "auto", "file_id": None},
        "OpenAI, named image": {"type": "image", "image_url": {"url": url}},
        "OpenAI, no type": {"image_url": file_url},
        "LangChain": {"type": "image", "source_type": "base64", "data": data, "mime_type": "image/png"},
        "LangChain, URL": {"type": "image", "source_type": "url", "url": url},
        "Qwen": {"type": "image", "image": file_url, "max_pixels": 1000},
        "Qwen, short": {"image": path},
        "Qwen, data": {"type": "image", "image": url},
        "Hugging Face": {"type": "image", "url": path},
        "Hugging Face, data": {"type": "image", "base64": data},
        "Vercel AI SDK": {"type": "image", "image": data, "mediaType": "image/png"},
        "Vercel AI SDK, file": {"type": "file", "data": data, "mediaType": "image/png"},
        "Vercel AI SDK, address": {"type": "image", "image": file_url, "mimeType": "image/png"},
        "Anthropic": {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": data},
            "cache_control": {"type": "ephemeral"},
        },
        "Anthropic, URL": {"type": "image", "source": {"type": "url", "url": url}},
        "MCP": {
            "type": "image",
            "data": data,
            "mimeType": "image/png",
            "annotations": {"audience": ["user"]},
            "_meta": {},
        },
        "MCP, snake case": {"type": "image", "data": data, "mime_type": "image/png"},
        "MCP, embedded": {"type": "resource", "resource": {"uri": "a:b", "mimeType": "image/png", "blob": data}},
        "MCP, link": {"type": "resource_link", "uri": file_url, "name": "a", "mimeType": "image/png", "size": 5},
        "MCP, bare link": {"type": "resource_link", "uri": file_url, "name": "a"},
    }


FORMS = list(image_forms("", ""))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tool", ["chat_completion", "chat_completion_batch"])
def test_image_is_taken_in_every_form(client: Client, tmp_path: Path, png: bytes, form: str, tool: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png)
    part = image_forms(str(path), base64.b64encode(png).decode())[form]
    messages = [user([{"type": "text", "text": "What?", "cache_control": None}, part])]
    arguments = {"messages": messages} if tool == "chat_completion" else {"conversations": [messages, messages]}
    result = client.result(tool, arguments)
    assert not [item.error for item in getattr(result, "results", ()) if item.error]
    (image,) = client.engine.conversations[-1].messages[0].images
    assert image.image.size == (8, 6)


def test_images_beside_the_text_come_before_it(client: Client, png: bytes) -> None:
    message = {**user("What?"), "images": [base64.b64encode(png).decode()] * 2}
    client.result("chat_completion", {"messages": [message]})
    (said,) = client.engine.conversations[-1].messages
    assert [type(part).__name__ for part in said.content] == ["ImagePart", "ImagePart", "TextPart"]


def test_embedded_text_is_text() -> None:
    resource = {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "words"}}
    assert canonical_part(resource) == {"type": "text", "text": "words"}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "resource_link", "uri": "file:///a.pdf", "mimeType": "application/pdf"}, "application/pdf"),
        ({"type": "image", "path": "/a", "mimeType": "text/plain"}, "text/plain"),
        ({"type": "image", "path": "/nowhere.png"}, 'There is no file "/nowhere.png"'),
        ({"type": "image", "image": "/nowhere.png"}, 'There is no file "/nowhere.png"'),
        ({"type": "image_url", "image_url": "ftp://a.example/b"}, "only http, https, data and file URLs are"),
        ({"type": "resource_link", "uri": "ui://a/b"}, "only http, https, data and file URLs are"),
        ({"type": "image", "data": "AAAA", "path": "/a"}, "exactly one of path and data"),
        ({"type": "image"}, "exactly one of path and data"),
    ],
)
def test_image_that_cannot_be_read_is_named_by_its_place(client: Client, part: Json, words: str) -> None:
    error = client.error("chat_completion", {"messages": [user("a"), user([{"type": "text", "text": "b"}, part])]})
    assert error.startswith("arguments.messages[1].content[1]: ")
    assert words in error


# Images that take long


class SlowReader(ImageReader):
    """Reads nothing until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def read(self, reference: str, *args: Any, **kwargs: Any) -> DecodedImage:
        self.asked.set()
        self.go_on.wait(20)
        raise AssertionError("nobody waits for it any more")


def slow_message(client: Client) -> tuple[SlowReader, Json]:
    reader = SlowReader()
    client.services.images = reader
    return reader, user([{"type": "image_url", "image_url": {"url": "http://a.example/b.png"}}])


def test_cancelling_a_chat_does_not_wait_for_its_images(client: Client) -> None:
    reader, message = slow_message(client)
    call = client.make_call("chat_completion", {"messages": [message]})

    def stop() -> None:
        reader.asked.wait(20)
        call.cancellation.set()

    threading.Thread(target=stop).start()
    began = time.monotonic()
    result = client.toolbox.run(call)
    reader.go_on.set()
    assert result["isError"]
    assert "stopped" in result["content"][0]["text"]
    assert time.monotonic() - began < 10


def test_deadline_of_a_chat_does_not_wait_for_its_images(client: Client) -> None:
    reader, message = slow_message(client)
    error = client.error("chat_completion", {"messages": [message], "timeout_s": 0.2})
    reader.go_on.set()
    assert error == "arguments.messages[0].content[0]: The call's time was up before this image was read."
