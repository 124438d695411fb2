"""The checks of a conversation that need no loaded model, the same for every engine.

Error texts name the argument as callers write it, in OpenAI's shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from engine.errors import InvalidGeneration
from engine.interface import Control, Conversation, ResponseFormat, Sampling
from engine.parts import NOUNS
from engine.prompts import forced_calls
from engine.prompts.forced_calls import AUTO, NONE, REQUIRED
from engine.prompts.rendering import check_messages
from engine.schemas.checks import COUNTS, MAX_COUNT, counted, usable_schema
from engine.schemas.tree import SchemaTree
from settings import EngineSettings

MAX_SCHEMA_CHARACTERS = 65_536

Vet = Callable[[dict[str, Any], Control], None]


class ConversationChecks:
    """Checks conversations for the engine of these settings; see `Engine.check`.

    Arguments:
        settings: the model, its tool parser and LoRA adapters, or the URL of the server that has it.
        vet: rejects a schema that the grammar backend cannot follow.
    """

    def __init__(self, settings: EngineSettings, vet: Vet) -> None:
        self._settings = settings
        self._vet = vet

    def check(
        self, conversation: Conversation, control: Control, accepts: Collection[str] = tuple(NOUNS)
    ) -> Conversation:
        """Returns the conversation as `generate` takes it.

        Arguments:
            conversation: its messages are checked only where it has some.
            control: stops the check of a schema.
            accepts: the kinds of media that the model accepts, or may accept where that is not known yet.
        Raises: `InvalidGeneration`, `GenerationFailed`, `GenerationCancelled`.
        """
        if conversation.messages:
            settings = self._settings
            check_messages(conversation.messages, settings.max_images_per_prompt, settings.shown_name, accepts)
        response_format = self._response_format(conversation, control)
        self._check_lora(conversation.lora)
        self._check_tools(conversation, control)
        return replace(conversation, response_format=response_format)

    def _response_format(self, conversation: Conversation, control: Control) -> ResponseFormat | None:
        response_format = conversation.response_format
        if response_format is None:
            return None
        _check_json_sampling(conversation.sampling)
        if response_format.schema is None:
            return response_format
        try:
            schema = usable_schema(response_format.schema)
            self._vet(schema, control)
        except InvalidGeneration as error:
            raise InvalidGeneration(f"arguments.response_format.json_schema.schema: {error}") from None
        return ResponseFormat(schema)

    def _check_lora(self, name: str | None) -> None:
        if name is None or name in self._settings.lora_modules or self._settings.base_url is not None:
            return  # a remote server knows its own adapters
        known = ", ".join(self._settings.lora_modules)
        there_are = f"there are {known}" if known else "the setting VLLM_LORA_MODULES lists none"
        raise InvalidGeneration(f"arguments.lora: there is no adapter {name[:60]!r}; {there_are}")

    def _check_tools(self, conversation: Conversation, control: Control) -> None:
        tools, choice = conversation.tools, conversation.tool_choice
        for index, tool in enumerate(tools):
            if (parameters := tool["function"].get("parameters")) is not None:
                check_parameters(parameters, f"arguments.tools[{index}].function.parameters")
        if choice == REQUIRED and not tools:
            raise InvalidGeneration("arguments.tool_choice: required needs arguments.tools.")
        if choice not in {AUTO, NONE, REQUIRED, *(tool["function"]["name"] for tool in tools)}:
            raise InvalidGeneration(f"arguments.tool_choice: there is no tool {choice!r} among arguments.tools.")
        if tools and choice == AUTO and self._settings.tool_parser is None and self._settings.base_url is None:
            raise InvalidGeneration(
                "arguments.tools: the server does not know how this model writes its calls. Set VLLM_TOOL_PARSER to "
                "vLLM's parser for the model's family; without it tool_choice may be none, required or a function."
            )
        if choice in (AUTO, NONE):
            return
        if conversation.response_format is not None:
            raise InvalidGeneration(
                "arguments.response_format: does not go with a forced tool_choice: a call is no answer"
            )
        try:
            self._vet(usable_schema(forced_calls.schema_of(tools, choice)), control)
        except InvalidGeneration as error:
            raise InvalidGeneration(
                f"arguments.tools: a call cannot be forced with these parameters: {error}"
            ) from None


def check_parameters(parameters: dict[str, Any], where: str) -> None:
    """Rejects a function's parameters that a chat template cannot render or the grammar backend cannot compile.

    Arguments:
        parameters: a JSON Schema of an object.
        where: the argument's name for error texts.
    Raises: `InvalidGeneration`.
    """
    if parameters.get("type", "object") != "object":
        raise InvalidGeneration(f'{where}: the parameters of a function are an object; set type to "object".')
    if forced_calls.nesting(parameters) > forced_calls.MAX_NESTED:
        raise InvalidGeneration(f"{where}: nested more than {forced_calls.MAX_NESTED} levels deep.")
    if len(json.dumps(parameters)) > MAX_SCHEMA_CHARACTERS:
        raise InvalidGeneration(f"{where}: longer than {MAX_SCHEMA_CHARACTERS} characters.")
    total = 0.0
    for node in SchemaTree(parameters).nodes:
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidGeneration(f"{where}: $ref may point only into the same schema (#/$defs/...).")
        total += counted(node)
    if total > MAX_COUNT:
        raise InvalidGeneration(f"{where}: {', '.join(COUNTS)} add up to more than {MAX_COUNT}.")


def _check_json_sampling(sampling: Sampling) -> None:
    for name, why in (
        ("ignore_eos", "JSON ends where it is complete"),
        ("min_tokens", "JSON ends where it is complete"),
        ("stop", "it would cut the JSON off"),
    ):
        if getattr(sampling, name):
            raise InvalidGeneration(f"arguments.{name}: does not go with response_format: {why}")
