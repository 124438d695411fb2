"""SmolLM2 135M Instruct, a real model, through the real server: what it says, and that it is what the model says.

All answers are greedy and computed in float32, so that other sums round nowhere to another word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.e2e import real_models
from tests.e2e.reference_answers import CONTEXT_TOKENS, ReferenceAnswers
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
MAX_TOKENS = 40
GREEDY: Json = {"temperature": 0, "max_tokens": MAX_TOKENS}
TIE = 0.002
"""By how much the log-probabilities of two tokens may differ when either may come first."""
LOGPROB_TOLERANCE = 0.05
CACHE_BLOCK_TOKENS = 128
"""vLLM caches whole blocks of a prompt; on a CPU a block has so many tokens."""


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def long_prompt(n_lines: int = 380) -> list[Json]:
    """Some 4,000 tokens of a list, a line of which is asked for at the end."""
    animals = ("cat", "dog", "horse", "mouse", "bird", "fish", "sheep", "goat")
    lines = [f"In house {n} lives a {animals[n * 5 % 8]}." for n in range(1, n_lines)]
    lines.insert(n_lines // 2, "The name of the captain is Marlowe.")
    return [user("\n".join([*lines, "", "What is the name of the captain?"]))]


CONVERSATIONS: dict[str, list[Json]] = {
    "capital": [user("What is the capital of France?")],
    "months": [user("List the months of the year.")],
    "count": [user("Count from 1 to 10.")],
    "system": [{"role": "system", "content": "You are a pirate."}, user("Who are you?")],
    "turns": [
        user("Remember this: the name of my cat is Felix."),
        {"role": "assistant", "content": "Felix is a fine name for a cat."},
        user("What is the name of my cat?"),
    ],
    "emoji": [user("Send me a smiling emoji.")],
    "japanese": [user("Write the word 'hello' in Japanese.")],
    "chinese": [user("Write the word 'cat' in Chinese characters.")],
    "long": long_prompt(),
}
MULTI_BYTE = ("emoji", "japanese", "chinese")


@pytest.fixture(scope="module")
def reference() -> Iterator[ReferenceAnswers]:
    """What vLLM alone and transformers say; the process runs beside the server."""
    with ReferenceAnswers(real_models.folder("smollm2-135m-instruct"), CONVERSATIONS, MAX_TOKENS) as answers:
        yield answers


@pytest.fixture(scope="module")
def server(reference: ReferenceAnswers) -> Iterator[ServerProcess]:
    settings = {
        "VLLM_MODEL_NAME": real_models.folder("smollm2-135m-instruct"),
        "VLLM_DTYPE": "float32",
        "VLLM_MAX_MODEL_LEN": str(CONTEXT_TOKENS),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_TOOL_PARSER": "hermes",
    }
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="module")
def answers(server: ServerProcess) -> dict[str, Json]:
    """Each conversation's answer from the server, asked in one batch."""
    arguments: Json = {"conversations": list(CONVERSATIONS.values()), **GREEDY, "logprobs": True}
    results = server.result("chat_completion_batch", arguments)["results"]
    return dict(zip(CONVERSATIONS, results, strict=True))


def chat(server: ServerProcess, messages: list[Json] | str, **arguments: Any) -> Json:
    if isinstance(messages, str):
        messages = [user(messages)]
    return server.result("chat_completion", {"messages": messages, **GREEDY, **arguments})


def streamed(server: ServerProcess, messages: list[Json], **arguments: Any) -> tuple[Json, list[str]]:
    """The result of a call, and the texts that came as its progress."""
    request_id = server.send_call(
        "chat_completion", {"messages": messages, **GREEDY, **arguments}, meta={"progressToken": 1}
    )
    told = []
    while "id" not in (message := server.read_message()):
        told.append(message["params"].get("message", ""))
    assert message["id"] == request_id
    result: Json = message["result"]["structuredContent"]
    return result, told


def tokens_of(answer: Json) -> list[Json]:
    """The answer's tokens with their log-probabilities."""
    entries: list[Json] = answer["logprobs"]["content"]
    return entries


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_answer_is_vllms_token_for_token(answers: dict[str, Json], reference: ReferenceAnswers, name: str) -> None:
    answer, expected = answers[name], reference[name]
    assert answer["text"] == expected.text
    assert answer["finish_reason"] == expected.finish_reason
    assert answer["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)
    assert answer["usage"]["completion_tokens"] == len(expected.token_ids) == len(tokens_of(answer))


@pytest.mark.parametrize("name", ["capital", "system", "turns"])
def test_a_call_answers_as_a_batch_does(server: ServerProcess, answers: dict[str, Json], name: str) -> None:
    answer = chat(server, CONVERSATIONS[name], logprobs=True)
    assert [entry["token"] for entry in tokens_of(answer)] == [entry["token"] for entry in tokens_of(answers[name])]
    assert (answer["text"], answer["finish_reason"]) == (answers[name]["text"], answers[name]["finish_reason"])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_hugging_face_reads_and_answers_the_same(reference: ReferenceAnswers, name: str) -> None:
    answer = reference[name]
    assert answer.prompt_token_ids == answer.template_token_ids
    assert answer.logprobs == pytest.approx(answer.best_logprobs, abs=TIE)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_log_probabilities_are_those_of_hugging_face(
    answers: dict[str, Json], reference: ReferenceAnswers, name: str
) -> None:
    told = [entry["logprob"] for entry in tokens_of(answers[name])]
    assert told == pytest.approx(reference[name].logprobs, abs=LOGPROB_TOLERANCE)


def test_it_knows_the_capital_of_france(answers: dict[str, Json]) -> None:
    assert answers["capital"]["text"] == "The capital of France is Paris."
    assert answers["capital"]["finish_reason"] == "stop"


@pytest.mark.parametrize(("cat", "other"), [("Felix", "Molly"), ("Molly", "Felix")])
def test_a_session_recalls_a_name(server: ServerProcess, cat: str, other: str) -> None:
    session: Json = {"session_id": f"cat-{cat}"}
    chat(server, f"Remember this: the name of my cat is {cat}.", **session)
    chat(server, "What is the capital of France?", **session)
    recalled = chat(server, "What is the name of my cat?", **session)
    assert cat in recalled["text"]
    assert other not in recalled["text"]
    assert recalled["session_messages"] == 6
    assert cat not in chat(server, "What is the name of my cat?")["text"]


def test_json_follows_its_schema_and_is_about_the_subject(server: ServerProcess) -> None:
    schema: Json = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "animal": {"type": "string", "enum": ["cat", "dog", "bird"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        },
        "required": ["name", "animal", "legs"],
        "additionalProperties": False,
    }
    named: Json = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    for name, animal in (("Rex", "dog"), ("Luna", "cat")):
        answer = chat(server, f"Tell me about a {animal} named {name} as JSON.", response_format=named)
        value = json.loads(answer["text"])
        jsonschema.validate(value, schema)
        assert (value["name"], value["animal"]) == (name, animal)
        assert answer["finish_reason"] == "stop"


WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def weather_call(city: str) -> str:
    """A call as Hermes models write it."""
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


# The model's chat template has no place for tools, and the model was not trained to call any: an example shows it how.
SHOWN_HOW = [
    {
        "role": "system",
        "content": f"You may call functions:\n<tools>\n{json.dumps(WEATHER['function'])}\n</tools>\n"
        f"Answer with a call such as\n{weather_call('London')}",
    },
    user("What is the weather in London?"),
    {"role": "assistant", "content": weather_call("London")},
]


@pytest.mark.parametrize("city", ["Paris", "Rome"])
@pytest.mark.parametrize("how", ["forced", "auto"])
def test_a_tool_is_called_for_the_city_in_question(server: ServerProcess, how: str, city: str) -> None:
    question = user(f"What is the weather in {city}?")
    if how == "forced":
        choice: Json = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
        answer = chat(server, [question], tools=[WEATHER], **choice)
    else:
        answer = chat(server, [*SHOWN_HOW, question], tools=[WEATHER], tool_choice="auto")
    (call,) = answer["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": city}
    assert answer["finish_reason"] == "tool_calls"
    assert answer["text"] == ""


def crossing(tokens: list[str], n_tokens: int, whole: str) -> tuple[int, str]:
    """A string that begins within one token and ends within another, and where its first token is."""
    for first in reversed(range(1, len(tokens) - n_tokens)):
        head, *middle, tail = tokens[first : first + n_tokens]
        stop = "".join((head[-2:], *middle, tail[:2]))
        if min(len(head), len(tail)) > 2 and whole.count(stop) == 1:
            return first, stop
    raise AssertionError(f"no such string in {tokens}")


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("n_tokens", [2, 4])
def test_a_stop_string_over_token_borders_ends_the_text(
    server: ServerProcess, answers: dict[str, Json], n_tokens: int, streaming: bool
) -> None:
    tokens = [entry["token"] for entry in tokens_of(answers["months"])]
    whole = answers["months"]["text"]
    first, stop = crossing(tokens, n_tokens, whole)
    if streaming:
        answer, told = streamed(server, CONVERSATIONS["months"], stop=[stop])
        assert "".join(told) == answer["text"]
    else:
        answer = chat(server, CONVERSATIONS["months"], stop=[stop])
    assert answer["text"] == whole.partition(stop)[0]
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == first + n_tokens


@pytest.mark.parametrize("name", MULTI_BYTE)
def test_multi_byte_text_is_streamed_without_broken_characters(
    server: ServerProcess, answers: dict[str, Json], name: str
) -> None:
    answer, told = streamed(server, CONVERSATIONS[name])
    assert answer["text"] == "".join(told) == answers[name]["text"]
    assert not any("\ufffd" in text for text in told)
    # vLLM gives the text of such a character to its last token, and none to those before.
    assert any(entry["token"] == "" for entry in tokens_of(answers[name])), "each character is one token"


@pytest.mark.parametrize("max_tokens", range(1, 7))
def test_an_answer_cut_within_a_character_has_no_broken_one(
    server: ServerProcess, answers: dict[str, Json], max_tokens: int
) -> None:
    answer, told = streamed(server, CONVERSATIONS["emoji"], max_tokens=max_tokens)
    assert answer["usage"]["completion_tokens"] == max_tokens
    assert "".join(told) == answer["text"]
    assert "\ufffd" not in answer["text"]
    assert answers["emoji"]["text"].startswith(answer["text"])


def test_a_prompt_of_4000_tokens_is_read_to_its_middle_and_cached(
    server: ServerProcess, answers: dict[str, Json]
) -> None:
    first = answers["long"]
    assert 4000 <= first["usage"]["prompt_tokens"] <= CONTEXT_TOKENS - MAX_TOKENS
    assert "Marlowe" in first["text"]
    again = chat(server, CONVERSATIONS["long"])
    assert again["text"] == first["text"]
    assert again["usage"]["cached_tokens"] > again["usage"]["prompt_tokens"] - 2 * CACHE_BLOCK_TOKENS
