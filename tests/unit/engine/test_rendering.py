"""What vLLM's chat gets to see of our messages."""

import json
import time

import pytest
from PIL import Image

from engine.errors import InvalidGeneration
from engine.interface import ImagePart, Message, TextPart, ToolCall
from engine.prompts.media_parts import MAX_ELONGATED, MIN_SIDE, processable
from engine.prompts.rendering import Renderer, TokenBreaker, merged

SPECIAL = ("<image>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|image_1|>", "\n")
JOINER = "\u2060"


def renderer(accepts: tuple[str, ...] = ("image",), max_images: int = 2) -> Renderer:
    return Renderer("org/model", accepts=accepts, max_images=max_images, break_tokens=TokenBreaker(SPECIAL))


def make_image() -> ImagePart:
    return ImagePart(Image.new("RGB", (64, 64)), "digest")


def user(*content: str | ImagePart) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in content))


@pytest.mark.parametrize("token", [token for token in SPECIAL if len(token) > 1])
def test_typed_special_tokens_are_broken_up_and_stay_readable(token: str) -> None:
    broken = TokenBreaker(SPECIAL)(f"a {token}{token} b")
    assert token not in broken
    assert broken.replace(JOINER, "") == f"a {token}{token} b"


def test_a_token_hidden_in_another_is_broken_up() -> None:
    assert TokenBreaker(SPECIAL)("<im<image>age>") == f"<im<{JOINER}image>age>"


def test_ordinary_text_is_left_alone() -> None:
    text = "if a < b: image > 3 | <im_start>\n"
    assert TokenBreaker(SPECIAL)(text) == text
    assert TokenBreaker(())(text) == text


def test_halves_of_a_token_in_neighbouring_parts_do_not_meet() -> None:
    (rendered,) = renderer().chat_messages([user("<ima", "ge>")])
    assert rendered == {"role": "user", "content": "<ima\nge>"}


def test_images_keep_their_place_and_their_name() -> None:
    part = make_image()
    (rendered,) = renderer().chat_messages([user("before", part, "after", "<image>")])
    assert rendered["content"] == [
        {"type": "text", "text": "before"},
        {"type": "image_pil", "image_pil": part.image, "uuid": "digest"},
        {"type": "text", "text": f"after\n<{JOINER}image>"},
    ]


def test_a_message_without_content_is_empty_text() -> None:
    assert renderer().chat_messages([user()]) == [{"role": "user", "content": ""}]


def test_calls_and_results_are_rendered_in_openais_shape() -> None:
    calls = Message("assistant", (), (ToolCall("call_1", "get_weather", '{"city": "Zürich"}'),))
    result = Message("tool", (TextPart("22"),), tool_call_id="call_1")
    function = {"name": "get_weather", "arguments": '{"city": "Zürich"}'}
    assert renderer().chat_messages([user("hi"), calls, result])[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "22", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize("typed", ["<image>", "\\u003cimage>"])
def test_special_tokens_in_calls_are_broken_up_also_where_they_are_escaped(typed: str) -> None:
    calls = Message("assistant", (), (ToolCall("<image>", "f", f'{{"a": ["{typed}"], "{typed}": 1}}'),))
    ((call,),) = (message["tool_calls"] for message in renderer().chat_messages([calls]))
    broken = f"<{JOINER}image>"
    assert call["id"] == broken
    assert json.loads(call["function"]["arguments"]) == {"a": [broken], broken: 1}


def test_special_tokens_in_tools_are_broken_up_and_parameters_are_never_missing() -> None:
    parameters = {"type": "object", "properties": {"<image>": {"enum": ["<image>", 1, None]}}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "<image>", "parameters": parameters}},
        {"type": "function", "function": {"name": "g"}},
    ]
    shown, bare = (tool["function"] for tool in renderer().chat_tools(tools))
    broken = f"<{JOINER}image>"
    assert (shown["name"], shown["description"]) == ("f", broken)
    assert shown["parameters"]["properties"] == {broken: {"enum": [broken, 1, None]}}
    assert bare == {"name": "g", "parameters": {"type": "object", "properties": {}}}
    assert parameters["properties"] == {"<image>": {"enum": ["<image>", 1, None]}}


def test_a_text_model_refuses_images() -> None:
    with pytest.raises(InvalidGeneration, match="org/model does not accept images"):
        renderer(accepts=()).chat_messages([user(make_image())])


def test_too_many_images_are_counted_over_all_messages() -> None:
    with pytest.raises(InvalidGeneration, match="has 3 images; the maximum is 2"):
        renderer().chat_messages([user(make_image(), make_image()), user(make_image())])


@pytest.mark.parametrize("messages", [[], [Message("<|im_start|>", ())]])
def test_no_messages_and_unknown_roles_are_refused(messages: list[Message]) -> None:
    with pytest.raises(InvalidGeneration):
        renderer().chat_messages(messages)


def test_an_ordinary_image_is_not_touched() -> None:
    image = Image.new("RGB", (1000, MIN_SIDE))
    assert processable(image) is image


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (30_000, 1), (31, 32), (1, 51), (40, 8000), (2, 100)])
def test_tiny_and_long_images_become_fit(size: tuple[int, int]) -> None:
    short, long = sorted(processable(Image.new("RGB", size)).size)
    assert short >= MIN_SIDE
    assert long <= MAX_ELONGATED * short
    assert short * long <= 40 * 8000


def test_many_texts_of_a_message_are_joined_in_time_that_grows_with_their_number() -> None:
    def seconds(n_parts: int) -> float:
        parts = [TextPart("x" * 100)] * n_parts
        started_s = time.perf_counter()
        (text,) = merged(parts)
        assert len(str(text)) == 101 * n_parts - 1
        return time.perf_counter() - started_s

    few_s = min(seconds(5_000) for _ in range(3))
    assert seconds(500_000) < 100 * 20 * few_s


def test_texts_are_joined_between_images_and_stay_in_order() -> None:
    image_part = make_image()
    content: list[TextPart | ImagePart] = [
        TextPart("a"),
        TextPart("b"),
        image_part,
        image_part,
        TextPart(""),
        TextPart("c"),
    ]
    assert merged(content) == ["a\nb", image_part, image_part, "\nc"]
    assert merged([]) == []
