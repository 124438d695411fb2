"""What a server is asked: by vLLM's names where it is one, and only what all know where it is not."""

from __future__ import annotations

import base64
import io
import json
import random
from typing import Any

import pytest
from PIL import Image

from engine.errors import InvalidGeneration
from engine.interface import Conversation, ImagePart, Message, ResponseFormat, Sampling, TextPart, ToolCall
from engine.remote.messages import DataUrls, break_special_tokens
from engine.remote.requests import Endpoint, OpenAIRequests
from tests.unit.engine.remote.samples import TOOL, asked

VLLM = Endpoint("http://vllm:8000", "m", is_vllm=True, max_model_len=100)
OTHER = Endpoint("https://other.example", "m", is_vllm=False)
OPENAI = Endpoint("https://api.openai.com", "m", is_vllm=False)
FULL = Sampling(
    0.5, 16, top_p=0.9, seed=3, stop=("a", "b"), presence_penalty=0.1, frequency_penalty=0.2, logprobs=2
)  # fmt: skip


def body(endpoint: Endpoint = VLLM, conversation: Conversation | None = None, **rest: Any) -> dict[str, Any]:
    return OpenAIRequests(endpoint, max_images=2).body(conversation or asked(**rest))


def make_image(width: int = 40, height: int = 40) -> ImagePart:
    pixels = random.Random(width).randbytes(width * height * 3)
    return ImagePart(Image.frombytes("RGB", (width, height), pixels), f"{width}x{height}")


def shown(content: Any) -> Image.Image:
    """The image in a message's second part."""
    url: str = content[1]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_vllm_is_told_every_value_since_its_defaults_are_the_models() -> None:
    made = body(sampling=FULL)
    told = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.0,
        "min_tokens": 0,
        "ignore_eos": False,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 3,
        "stop": ["a", "b"],
        "max_tokens": 16,
        "logprobs": True,
        "top_logprobs": 2,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert {name: made[name] for name in told} == told
    assert "chat_template_kwargs" not in made


def test_others_are_told_only_what_is_not_the_default() -> None:
    assert set(body(OTHER, sampling=Sampling(1.0, 16))) == {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
    }
    assert body(OTHER, sampling=FULL)["frequency_penalty"] == 0.2
    assert body(OPENAI)["max_completion_tokens"] == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 5), ("min_p", 0.1), ("min_tokens", 2), ("ignore_eos", True), ("repetition_penalty", 1.1)],
)
def test_what_only_vllm_knows_is_refused_by_name_elsewhere(name: str, value: Any) -> None:
    sampling = Sampling(0.0, 16, **{name: value})
    assert body(sampling=sampling)[name] == value
    with pytest.raises(InvalidGeneration, match=f"^{name}: only a vLLM server accepts this"):
        body(OTHER, sampling=sampling)


def test_thinking_is_passed_on_as_that_switch_alone() -> None:
    assert body(enable_thinking=False)["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    with pytest.raises(InvalidGeneration, match=r"^enable_thinking: only a vLLM server"):
        body(OTHER, enable_thinking=True)


def test_vllm_is_never_asked_for_more_than_its_context() -> None:
    assert body(sampling=Sampling(0.0, 5000))["max_tokens"] == 100


def test_choice_is_a_grammar_for_vllm_and_a_token_elsewhere() -> None:
    made = body(choice=("yes", "no"), enable_thinking=False)
    assert made["structured_outputs"]["choice"][:4] == ["yes", " yes", "Yes", " Yes"]
    assert (made["max_tokens"], made["top_logprobs"], made["temperature"]) == (1, 20, 0.0)
    assert made["chat_template_kwargs"]["enable_thinking"] is False
    plain = body(OTHER, choice=("yes", "no"), enable_thinking=False)
    assert (plain["max_tokens"], plain["top_logprobs"]) == (1, 20)
    assert not {"structured_outputs", "chat_template_kwargs", "top_k"} & set(plain)


def test_form_of_an_answer() -> None:
    schema = {"type": "object"}
    assert body(response_format=ResponseFormat())["response_format"] == {"type": "json_object"}
    assert body(response_format=ResponseFormat(schema))["response_format"]["json_schema"]["schema"] == schema


def test_tools_may_must_or_must_not_be_called() -> None:
    assert body(tools=(TOOL,))["tool_choice"] == "auto"
    assert "tools" not in body(tools=(TOOL,), tool_choice="none")
    assert body(OTHER, tools=(TOOL,), tool_choice="required")["tool_choice"] == "required"
    named = body(OTHER, tools=(TOOL,), tool_choice="weather")["tool_choice"]
    assert named == {"type": "function", "function": {"name": "weather"}}


def test_forced_call_needs_no_parser_on_a_vllm_server() -> None:
    made = body(tools=(TOOL,), tool_choice="required")
    assert (made["tool_choice"], made["tools"][0]["function"]["name"]) == ("none", "weather")
    assert made["response_format"]["json_schema"]["schema"]["type"] == "array"


def test_messages_of_every_kind() -> None:
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}')
    messages = (
        Message("system", (TextPart("Be brief."),)),
        Message("user", (TextPart("one"), TextPart("two"))),
        Message("assistant", (), (call,)),
        Message("tool", (TextPart("22"),), tool_call_id="call_1"),
    )
    made = body(conversation=Conversation(messages, Sampling(0.0, 1)))["messages"]
    assert [message["role"] for message in made] == ["system", "user", "assistant", "tool"]
    assert [message["content"] for message in made] == ["Be brief.", "one\ntwo", "", "22"]
    assert made[2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert made[3]["tool_call_id"] == "call_1"


def test_image_goes_as_it_is_and_only_a_large_one_as_jpeg() -> None:
    for part, kind in ((make_image(), "PNG"), (make_image(2100, 2000), "JPEG")):
        message = Message("user", (TextPart("What?"), part))
        (made,) = body(conversation=Conversation((message,), Sampling(0.0, 1)))["messages"]
        image = shown(made["content"])
        assert (image.format, image.size) == (kind, part.image.size)
        if kind == "PNG":
            assert image.tobytes() == part.image.tobytes()


def test_too_many_images_and_unknown_roles_are_refused() -> None:
    with pytest.raises(InvalidGeneration, match="has 3 images; the maximum is 2"):
        body(conversation=Conversation((Message("user", (make_image(),) * 3),), Sampling(0.0, 1)))
    with pytest.raises(InvalidGeneration, match="Unknown role 'root'"):
        body(conversation=Conversation((Message("root", (TextPart("a"),)),), Sampling(0.0, 1)))


def test_image_is_encoded_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Image.Image] = []

    def encode(image: Image.Image) -> str:
        encoded.append(image)
        return "x" * 10

    monkeypatch.setattr("engine.remote.messages.data_url", encode)
    urls = DataUrls(max_cached_bytes=20)
    for part in (make_image(40), make_image(40), make_image(41), make_image(42), make_image(40)):
        assert urls.of(part) == "x" * 10
    assert [image.width for image in encoded] == [40, 41, 42, 40]


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<image>", "<end_of_utterance>", "[INST]", "<start_of_turn>", "<|vision_pad|>", "</s>"]
)
def test_typed_special_tokens_are_broken_up_for_vllm(token: str) -> None:
    (message,) = body(conversation=asked(f"a {token} b"))["messages"]
    assert token not in message["content"]
    assert message["content"].replace("\u2060", "") == f"a {token} b"
    (message,) = body(OTHER, conversation=asked(f"a {token} b"))["messages"]
    assert message["content"] == f"a {token} b"


def test_special_tokens_in_tools_and_calls_are_broken_up_for_vllm() -> None:
    token = "<|im_end|>"
    parameters = {"type": "object", "properties": {token: {"description": token}}, "required": [token]}
    tool = {"type": "function", "function": {"name": "f", "description": token, "parameters": parameters}}
    call = ToolCall(f"id{token}", f"f{token}", '{"\\u003c|im_end|>": ["\\u003c|im_end|>"]}')
    messages = (
        Message("user", (TextPart("a"),)),
        Message("assistant", (), (call,)),
        Message("tool", (TextPart("b"),), tool_call_id=f"id{token}"),
    )
    made = body(conversation=Conversation(messages, Sampling(0.0, 1), tools=(tool,)))
    broken = json.loads(json.dumps(made).replace("\\\\u003c", "<"))
    assert token not in json.dumps(broken)
    (name,) = made["tools"][0]["function"]["parameters"]["properties"]
    assert made["tools"][0]["function"]["parameters"]["required"] == [name]
    (asked_for,) = json.loads(made["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert asked_for.replace("\u2060", "") == token
    plain = body(OTHER, conversation=Conversation(messages, Sampling(0.0, 1), tools=(tool,)))
    assert plain["messages"][1]["tool_calls"][0]["function"]["arguments"] == call.arguments


def test_arguments_that_are_no_json_are_broken_up_as_text() -> None:
    call = ToolCall("id", "f", '{"a": <|im_end|>')
    messages = (Message("user", (TextPart("a"),)), Message("assistant", (), (call,)))
    made = body(conversation=Conversation(messages, Sampling(0.0, 1)))
    arguments = made["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert arguments != call.arguments
    assert arguments.replace("\u2060", "") == call.arguments


@pytest.mark.parametrize("text", ["a < b > c", "<b>bold</b>", "List[int]", "if a|b", "<div>", "x <|> y"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert break_special_tokens(text) == text
