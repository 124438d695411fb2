"""The tools that the conformance suite calls by name."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from mcp_protocol.calls.answers import Action, Answer
from mcp_protocol.calls.call import Call
from mcp_protocol.calls.question import ask
from mcp_protocol.jsonrpc import Json
from mcp_protocol.tools.toolbox import ArgumentError, Tool, Toolbox, text_block
from tests.conformance.fixture_media import red_dot_block, resource_block, sound_block
from tests.conformance.fixture_tasks import TASK_TOOLS

PAUSE_S = 0.05
"""What the suite asks for between two notifications."""
SCHEMA_2020_12: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


STRING: Json = {"type": "string"}
ASKED_FIELDS = {"username": "User's response", "email": "User's email address"}
DEFAULTS: Json = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
OPTIONS = ["option1", "option2", "option3"]
WORDS = ("First", "Second", "Third")
TITLED = [{"const": f"value{number}", "title": f"{word} Option"} for number, word in enumerate(WORDS, 1)]
ENUMS: Json = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to show the user."""

    message: str


class Address(msgspec.Struct, frozen=True):
    """Part of `Contact`."""

    street: str | None = None
    city: str | None = None


class Contact(msgspec.Struct, frozen=True, rename="camel"):
    """The properties of `SCHEMA_2020_12`."""

    name: str | None = None
    address: Address | None = None
    contact_method: Literal["phone", "email"] | None = None
    phone: str | None = None
    email: str | None = None


class SchemaTool(Tool, frozen=True):
    """A tool whose input schema is written out: no Struct yields all keywords of JSON Schema."""

    def listing(self) -> Json:
        """The tool as `tools/list` shows it."""
        return {**super().listing(), "inputSchema": SCHEMA_2020_12}


class IntendedFailure(Exception):
    """What `test_error_handling` raises."""


def toolbox() -> Toolbox:
    """All of them."""
    return Toolbox(TOOLS, None, str)


def _simple_text(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    return [text_block("This is a simple text response for testing.")]


def _image(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    return [red_dot_block()]


def _audio(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    return [sound_block()]


def _embedded_resource(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    return [resource_block("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


def _multiple_content_types(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    resource = resource_block("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return [text_block("Multiple content types test:"), red_dot_block(), resource]


def _with_logging(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    call.log("info", "Tool execution started")
    time.sleep(PAUSE_S)
    call.log("info", "Tool processing data")
    time.sleep(PAUSE_S)
    call.log("info", "Tool execution completed")
    return [text_block("Logged three messages.")]


def _logging(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    call.log("info", "Tool execution started")  # the suite waits half a second for the end, so there is no pause
    return [text_block("Logged a message.")]


def _with_progress(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    for progress in (1, 50, 100):  # where the suite says 0, which is no progress and so never sent
        call.progress(progress, 100)
        time.sleep(PAUSE_S)
    return [text_block("Made all the progress there is.")]


def _error(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    raise IntendedFailure("This tool intentionally returns an error for testing")


def _elicitation(arguments: Message, call: Call, services: Any) -> list[Json]:
    properties = {name: {"type": "string", "description": text} for name, text in ASKED_FIELDS.items()}
    answer = ask(call, _form(properties, required=[*ASKED_FIELDS]), arguments.message)
    return [_answer_block("User response", answer)]


def _elicitation_of(properties: Json) -> Any:
    """A handler that asks for these values."""

    def handle(arguments: Nothing, call: Call, services: Any) -> list[Json]:
        return [_answer_block("Elicitation completed", ask(call, _form(properties), "Please fill in the form."))]

    return handle


def _greeting(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    answer = ask(call, _form({"name": STRING}, required=["name"]), "What is your name?", "user_name")
    return [text_block(f"Hello, {answer.content['name']}!")]


def _confirmation(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    answer = ask(call, _form({"ok": {"type": "boolean"}}, required=["ok"]), "Please confirm", "confirm")
    return [text_block(f"state-ok, {answer.content['ok']}")]


def _two_rounds(arguments: Nothing, call: Call, services: Any) -> list[Json]:
    name = ask(call, _form({"name": STRING}, required=["name"]), "Step 1: What is your name?", "step1")
    color = ask(call, _form({"color": STRING}, required=["color"]), "Step 2: What is your favorite color?", "step2")
    return [text_block(f"{name.content['name']} likes {color.content['color']}.")]


def _form(properties: Json, required: Sequence[str] = ()) -> Json:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _answer_block(what: str, answer: Answer) -> Json:
    if answer.action is Action.NOT_ASKED:
        raise ArgumentError("The client does not support elicitation.")
    return text_block(f"{what}: action={answer.action.value}, content={json.dumps(answer.content)}")


def _contact(arguments: Contact, call: Call, services: Any) -> list[Json]:
    return [text_block(f"Contact by {arguments.contact_method}.")]


def _row(name: str, description: str, handler: Any) -> Tool:
    return Tool(name, name, description, Nothing, handler)


TOOLS = (
    _row("test_simple_text", "Returns text.", _simple_text),
    _row("test_image_content", "Returns a picture.", _image),
    _row("test_audio_content", "Returns a sound.", _audio),
    _row("test_embedded_resource", "Returns a resource.", _embedded_resource),
    _row("test_multiple_content_types", "Returns text, a picture and a resource.", _multiple_content_types),
    _row("test_tool_with_logging", "Sends three log messages.", _with_logging),
    _row("test_logging_tool", "Sends a log message.", _logging),
    _row("test_tool_with_progress", "Sends three progress notifications.", _with_progress),
    _row("test_streaming_elicitation", "Asks for a name.", _greeting),
    Tool("test_elicitation", "test_elicitation", "Asks the user.", Message, _elicitation),
    _row("test_elicitation_sep1034_defaults", "Asks by a form with defaults.", _elicitation_of(DEFAULTS)),
    _row("test_elicitation_sep1330_enums", "Asks by a form with choices.", _elicitation_of(ENUMS)),
    _row("test_input_required_result_elicitation", "Asks for a name.", _greeting),
    _row("test_input_required_result_request_state", "Asks for a confirmation.", _confirmation),
    _row("test_input_required_result_tampered_state", "Asks for a confirmation.", _confirmation),
    _row("test_input_required_result_multi_round", "Asks twice.", _two_rounds),
    _row("test_error_handling", "Always fails.", _error),
    SchemaTool(
        "json_schema_2020_12_tool",
        "Contact",
        "Tool with JSON Schema 2020-12 features",
        Contact,
        _contact,
    ),
    *TASK_TOOLS,
)
