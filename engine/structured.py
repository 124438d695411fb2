"""Answers in a form: which JSON Schemas the engine takes, and what vLLM is told of them.

vLLM checks a schema only in part, and one that its grammar backend cannot follow leaves an empty answer, takes seconds
a token or, with an array of a thousand million items, all the memory. So a schema is measured, compiled and tried out
here first, with the same library that the engine then uses; a schema that fails never reaches the engine.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import GenerationFailed, InvalidGeneration
from engine.interface import Completion, Conversation, FinishReason, ResponseFormat

ENGINE_ARGUMENTS: Mapping[str, Any] = {
    # An engine keeps the backend of its first request, so vLLM's "auto" can use one that ignores half of a later
    # schema. This one refuses what it cannot follow. Without the whitespace a small model has no way to never end.
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}
OPTIONS = "x-guidance"
"""A key at a schema's root by which the backend takes options, laxness among them."""

MAX_SCHEMA_BYTES = 100_000
MAX_NESTING = 64
"""vLLM's own limit, and OpenAI's is 10."""
MAX_COUNT = 10_000
"""Of all items and properties that a schema counts up to: the grammar grows with each."""
MAX_LENGTH = 1_000_000
REHEARSALS = 4
REHEARSED_BYTES = 128
REHEARSAL_S = 2.0
# A quarter of what the engine allows itself: its vocabulary is larger than the 256 bytes tried here.
_LIMITS = {"initial_lexer_fuel": 250_000, "step_lexer_fuel": 50_000, "step_max_items": 12_500}

COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_LENGTHS = ("minLength", "maxLength")
_DATA = ("const", "enum", "default", "examples")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMAS = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")
_JOINED = ("allOf", "anyOf", "oneOf", "$ref")
_ENDING = frozenset(b'"}],:')
_TOO_COMPLEX = "it is too complex to be followed, or nothing can satisfy it"


def usable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the engine gets it: objects that list their properties have no others.

    Raises: `InvalidGeneration`, which says what about the schema cannot be used.
    """
    _check_size(schema)
    _check_keywords(schema)
    schema = closed(schema)
    if problem := _problem(schema):
        raise InvalidGeneration(f"this schema cannot be used: {problem}.")
    return schema


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` where an object lists its properties and does not speak of others.

    JSON Schema means "any others" then, which models read as an invitation to go on for ever.
    """
    if not _may_close(schema):
        return schema
    without_others: dict[str, Any] = _closed(schema)
    return without_others


def parameters(response_format: ResponseFormat | None) -> Any:
    """The format as vLLM's sampling parameters take it."""
    if response_format is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    if response_format.schema is None:
        return StructuredOutputsParams(json_object=True)
    return StructuredOutputsParams(json=response_format.schema)


def checked(conversations: Sequence[Conversation], completions: Sequence[Completion]) -> list[Completion]:
    """The completions, with an error in place of an answer that ended by itself and is no JSON though it had to be.

    That happens where the backend gives up half-way: it then only lets the model end.

    Raises: `GenerationFailed` where there is only one.
    """
    failed = "The answer broke off before its JSON was complete: the schema is too complex for the engine."
    broken = [is_broken(*pair) for pair in zip(conversations, completions, strict=True)]
    if broken == [True]:
        raise GenerationFailed(failed)
    return [
        replace(completion, text="", logprobs=None, error=failed) if is_wrong else completion
        for completion, is_wrong in zip(completions, broken, strict=True)
    ]


def is_broken(conversation: Conversation, completion: Completion) -> bool:
    """Whether an answer that ended by itself is no JSON though it had to be."""
    if conversation.response_format is None or completion.finish_reason is not FinishReason.STOP or completion.error:
        return False
    try:
        json.loads(completion.text)
    except (ValueError, RecursionError):
        return True
    return False


def _check_size(schema: dict[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
    if level:
        raise InvalidGeneration(f"the schema is nested too deeply; {MAX_NESTING} levels are allowed.")
    n_bytes = len(json.dumps(schema))
    if n_bytes > MAX_SCHEMA_BYTES:
        raise InvalidGeneration(f"the schema has {n_bytes} bytes; {MAX_SCHEMA_BYTES} are allowed.")


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [child for child in values if isinstance(child, dict | list)]


def _check_keywords(schema: dict[str, Any]) -> None:
    if OPTIONS in schema:
        raise InvalidGeneration(f"the schema has the key {OPTIONS!r}, which is not for callers. Leave it out.")
    total = 0.0
    for node in _nodes(schema):
        reference = node.get("$ref", "#")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidGeneration(
                f"the schema refers to {reference[:100]!r}; a $ref has to point into the schema itself, as '#/$defs/x'."
            )
        total += counted(node)
        if any(_number(node, name) > MAX_LENGTH for name in _LENGTHS):
            raise InvalidGeneration(f"minLength and maxLength may be at most {MAX_LENGTH}.")
    if total > MAX_COUNT:
        raise InvalidGeneration(
            f"{', '.join(COUNTS)} of the whole schema add up to {total:.0f}; {MAX_COUNT} are allowed."
        )


def counted(node: dict[str, Any]) -> float:
    """How many items and properties one object of a schema counts up to; a grammar grows with each."""
    return sum(_number(node, name) for name in COUNTS)


def _number(node: dict[str, Any], name: str) -> float:
    value = node.get(name, 0)
    return value if isinstance(value, int | float) and value > 0 else 0


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """All objects of a schema but those that are data."""
    if isinstance(node, dict):
        yield node
        node = [value for name, value in node.items() if name not in _DATA]
    for child in node:
        if isinstance(child, dict | list):
            yield from _nodes(child)


def _may_close(schema: dict[str, Any]) -> bool:
    """Whether forbidding properties that are not listed leaves every object possible.

    Where two schemas hold for one object, each lists only its own part.
    """
    for node in _nodes(schema):
        if "allOf" in node or ("properties" in node and any(name in node for name in _JOINED)):
            return False
    return True


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {
        name: {key: _closed(child) for key, child in value.items()}
        if name in _NAMED_SCHEMAS and isinstance(value, dict)
        else _closed(value)
        if name in _SCHEMAS
        else value
        for name, value in node.items()
    }
    listed, required = node.get("properties"), node.get("required", [])
    if isinstance(listed, dict) and isinstance(required, list) and "minProperties" not in node:
        others_needed = any(not isinstance(name, str) or name not in listed for name in required)
        if not others_needed:
            closed.setdefault("additionalProperties", False)
    return closed


def _problem(schema: dict[str, Any]) -> str | None:
    """What the grammar backend has against a schema, `None` for nothing; also where it is not installed."""
    try:
        from llguidance import LLMatcher
    except ImportError:
        return None  # it comes with vLLM, without which the load fails
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_flexible": False})
    except ValueError as error:  # a number or a character that JSON Schemas cannot have
        return _sentence(str(error))
    if problem := LLMatcher.validate_grammar(grammar, None):
        return _sentence(problem)
    return _rehearsed(grammar)


def _rehearsed(grammar: str) -> str | None:
    """What goes wrong while made-up answers are followed byte by byte: a compiled grammar can still have no way on."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    until_s = time.monotonic() + REHEARSAL_S
    picked = random.Random(0)
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=LLParserLimits(**_LIMITS))
    for _ in range(REHEARSALS):
        for _ in range(REHEARSED_BYTES):
            if matcher.is_stopped():
                break
            if time.monotonic() > until_s:
                return _TOO_COMPLEX
            mask = matcher.compute_bitmask()
            allowed = [token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1]
            ending = [token for token in allowed if token in _ENDING]  # else it stays in the first string
            matcher.consume_token(picked.choice(ending if ending and picked.random() < 0.5 else allowed or [0]))
        if matcher.is_error():
            return _TOO_COMPLEX
        matcher.reset()
    return None


def _sentence(error: str) -> str:
    """The reason in one line: no backtrace, and no advice that a caller cannot follow."""
    reason = " ".join(error.partition("\n<")[0].split())
    if "coerce_one_of" in reason:
        return "oneOf with choices that overlap is not supported; use anyOf"
    if reason.lower().startswith(("panic", "unable to determine")):
        return _TOO_COMPLEX
    reason = reason.replace("Unimplemented keys", "keywords that are not supported").rstrip(".")
    return reason[:1].lower() + reason[1:300]
