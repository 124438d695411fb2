"""What a model writes beside its answer: its reasoning, and the functions that it wants called.

vLLM's own parsers read it, composed and used as vLLM's online server does; `vllm.LLM` alone only shows tools to the
model. Whatever a parser cannot read is text, and so is a call that nobody could make: of a function that was not
offered, or with arguments that are no JSON object.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine import forced_calls
from engine.errors import EngineUnavailable, InvalidGeneration
from engine.interface import Conversation, ToolCall
from engine.rendering import without_half_label
from engine.schema_bounds import bounded
from engine.schema_tree import SchemaTree
from engine.schemas import COUNTS, MAX_COUNT, closed, counted
from settings import EngineSettings

log = logging.getLogger("engine")

MOST_SCHEMA_CHARACTERS = 65_536
AUTO, NONE = "auto", "none"


@dataclass(frozen=True, slots=True)
class Output:
    """What a model wrote, taken apart."""

    text: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class PlainReader:
    """Reads the output of a request that needs no parser: all of it is the answer.

    `uses_engine`: whether it works with the engine's tokenizer, which one thread may use at a time.
    """

    uses_engine = False

    def constrain(self, params: Any) -> None:
        """Sets what the parsers need in vLLM's sampling parameters."""

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """That part of a step's new text which is certainly the answer's."""
        return text

    def read(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The whole output, taken apart."""
        return Output(text)

    def whole(self, text: str) -> str:
        """What of an output that was cut off is to be read."""
        return text


class LineReader(PlainReader):
    """Reads a line of `role: content` behind its label: the space between the two is no part of the answer, and neither
    is the label of a next line, of which half may have been written where the answer is cut off."""

    def __init__(self) -> None:
        self._text = ""
        self._n_told = 0

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """The new text, but for the spaces before the answer and what may become a label."""
        self._text = (self._text + text).lstrip(" ") if not self._n_told else self._text + text
        certain = without_half_label(self._text)
        new, self._n_told = certain[self._n_told :], max(self._n_told, len(certain))
        return new

    def read(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The whole answer."""
        return Output(text.lstrip(" "))

    def whole(self, text: str) -> str:
        """The text without half a label at its end."""
        return without_half_label(text)


class OutputParsers:
    """The parsers of one loaded model.

    Arguments:
        llm: the loaded `vllm.LLM`.
        tool_parser, reasoning_parser: vLLM's names for them; `None` where the model has none.
        writes_lines: whether the model has no chat template and goes on with a line of `role: content`.
    Raises: `EngineUnavailable` when a parser does not fit the model's tokenizer.
    """

    def __init__(
        self,
        llm: Any,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        *,
        writes_lines: bool = False,
    ) -> None:
        self._llm = llm
        self._writes_lines = writes_lines
        self._tool_parser = tool_parser
        self._reasoning_parser = reasoning_parser
        for variable, name, with_tools in (
            ("VLLM_TOOL_PARSER", tool_parser, True),
            ("VLLM_REASONING_PARSER", reasoning_parser, False),
        ):
            if name is not None:
                self._try(variable, name, with_tools)

    def reader(self, conversation: Conversation) -> PlainReader:
        """The reader for one conversation's answer."""
        offers = bool(conversation.tools) and conversation.tool_choice != NONE
        if offers and conversation.tool_choice != AUTO:
            return ForcedReader(conversation, self._reader(conversation, with_tools=False))
        return self._reader(conversation, with_tools=offers and self._tool_parser is not None)

    def chat_options(self, conversation: Conversation, shown_tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What `LLM.enqueue_chat` is given so that the model's template shows the tools and begins a thought or not.

        A model that may call nothing is not shown the tools: it could only write calls that nobody reads.
        """
        options: dict[str, Any] = {}
        if shown_tools and conversation.tool_choice != NONE:
            options["tools"] = list(shown_tools)
        if kwargs := thinking_kwargs(conversation):
            options["chat_template_kwargs"] = kwargs
        return options

    def parser(self, request: Any, thinking: dict[str, bool], *, with_tools: bool, with_reasoning: bool = True) -> Any:
        """A new parser for one output, since they keep state; `None` where there is nothing to parse."""
        from vllm.parser import ParserManager

        config = self._llm.llm_engine.model_config
        cls = ParserManager.get_parser(
            tool_parser_name=self._tool_parser if with_tools else None,
            reasoning_parser_name=self._reasoning_parser if with_reasoning else None,
            enable_auto_tools=with_tools,
            is_harmony=getattr(config.hf_config, "model_type", None) == "gpt_oss",
        )
        if cls is None:
            return None
        return cls(self._llm.get_tokenizer(), request.tools, chat_template_kwargs=thinking, model_config=config)

    def _reader(self, conversation: Conversation, with_tools: bool) -> PlainReader:
        if not with_tools and self._reasoning_parser is None:
            return LineReader() if self._writes_lines else PlainReader()
        return ParsingReader(self, conversation, with_tools)

    def _try(self, variable: str, name: str, with_tools: bool) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        try:
            self.parser(ChatCompletionRequest(messages=[]), {}, with_tools=with_tools, with_reasoning=not with_tools)
        except Exception as error:
            log.error("The parser %s cannot be used.", name, exc_info=error)
            raise EngineUnavailable(
                f"Failed to initialize vLLM: the parser in {variable} does not fit the model: its tokenizer lacks what "
                "the parser looks for. Set it to the parser of the model's family, or leave it empty."
            ) from None


class ForcedReader(PlainReader):
    """Reads an output that has to be calls in a form of ours.

    Arguments: the conversation to be answered; the reader for what comes before the calls.
    """

    uses_engine = True

    def __init__(self, conversation: Conversation, before: PlainReader) -> None:
        self._choice = conversation.tool_choice
        self._schema = bounded(closed(forced_calls.schema_of(conversation.tools, self._choice)))
        self._before = before

    def constrain(self, params: Any) -> None:
        """Makes the calls the only output that is possible, whatever other form was asked for."""
        from vllm.sampling_params import StructuredOutputsParams

        self._before.constrain(params)
        params.structured_outputs = StructuredOutputsParams(json=self._schema)

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """Nothing: calls are no answer."""
        return ""

    def read(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The calls; text where they were cut off."""
        output = self._before.read(text, token_ids, prompt_token_ids)
        tool_calls = forced_calls.calls_in(output.text, self._choice)
        return Output("", output.reasoning, tool_calls) if tool_calls else output


class ParsingReader(PlainReader):
    """Reads one output with the model's parsers.

    Arguments: the parsers; the conversation to be answered; whether its tools may be called.
    """

    uses_engine = True

    def __init__(self, parsers: OutputParsers, conversation: Conversation, with_tools: bool) -> None:
        self._parsers = parsers
        self._with_tools = with_tools
        self._thinking = thinking_kwargs(conversation)
        self._offered = {tool["function"]["name"] for tool in conversation.tools}
        self._request = _request(conversation, with_tools)
        self._request = self._parser(with_tools).adjust_request(self._request)
        self._stream: Any = None
        self._streaming = True

    def constrain(self, params: Any) -> None:
        """Lets the detokenizer leave in what the parsers look for.

        A grammar that a parser would like for the calls is left out: the engine's backend may not follow it.
        """
        for name in ("skip_special_tokens", "spaces_between_special_tokens"):
            if not getattr(self._request, name):
                setattr(params, name, False)

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """That part of a step's new text which is certainly the answer's; none after a parser failed."""
        if not self._streaming:
            return ""
        try:
            if self._stream is None:
                self._stream = self._parser(self._with_tools)
            delta = self._stream.parse_delta(
                text, list(token_ids), self._request, list(prompt_token_ids), finished=False
            )
        except BaseException:  # some are compiled, and panic
            log.warning("A parser failed on a part of an output; the rest comes at its end.", exc_info=True)
            self._streaming = False
            return ""
        content: str = (delta.content or "") if delta is not None else ""
        if any(mark in content for mark in _marks(self._stream)):
            # The parser thought that the prompt had closed the reasoning; at the end it knows better.
            self._streaming = False
            return ""
        return content

    def read(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The whole output, taken apart; as it is where a parser fails."""
        try:
            reasoning, content, found = self._parse(text, token_ids, prompt_token_ids, self._with_tools)
            tool_calls = _usable(found or (), self._offered)
            if not tool_calls and (found or not (content or reasoning)):
                # Calls that cannot be made, or that a parser threw away because it could not read them.
                reasoning, content, _ = self._parse(text, token_ids, prompt_token_ids, with_tools=False)
        except BaseException:
            log.warning("A parser failed; its output is answered as it is.", exc_info=True)
            return Output(text)
        return Output(content or "", reasoning or None, tool_calls)

    def _parse(
        self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int], with_tools: bool
    ) -> tuple[str | None, str | None, Any]:
        parser = self._parser(with_tools)
        if parser is not None and self._is_over(parser, text, prompt_token_ids):
            parser = self._parser(with_tools, with_reasoning=False)
        if parser is None:
            return None, text, None
        parser.set_prompt_token_ids(prompt_token_ids)
        parsed: tuple[str | None, str | None, Any] = parser.parse(
            text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
        )
        return parsed

    def _is_over(self, parser: Any, text: str, prompt_token_ids: Sequence[int]) -> bool:
        """Whether the prompt itself has closed the reasoning, as templates do where thinking is off.

        Some parsers look at the output alone, and take all of it for reasoning that has not ended.
        """
        if parser.reasoning_parser is None or not parser.is_reasoning_end(list(prompt_token_ids)):
            return False
        return not any(mark in text for mark in _marks(parser))

    def _parser(self, with_tools: bool, with_reasoning: bool = True) -> Any:
        return self._parsers.parser(self._request, self._thinking, with_tools=with_tools, with_reasoning=with_reasoning)


def check_names(settings: EngineSettings) -> None:
    """Refuses names of parsers that this vLLM does not have.

    Raises: `EngineUnavailable` that lists those it has.
    """
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    for variable, name, known in (
        ("VLLM_TOOL_PARSER", settings.tool_parser, ToolParserManager.list_registered()),
        ("VLLM_REASONING_PARSER", settings.reasoning_parser, ReasoningParserManager.list_registered()),
    ):
        if name is not None and name not in known:
            raise EngineUnavailable(
                f"Failed to initialize vLLM: this vLLM has no parser {name[:100]!r}. Set {variable} to one of "
                f"{', '.join(known)}, or leave it empty."
            )


def check_parameters(parameters: dict[str, Any], where: str) -> None:
    """Refuses a function's parameters that could not be shown to a model or made into a grammar.

    Arguments: a JSON Schema of an object; the argument's name for error texts.
    Raises: `InvalidGeneration`.
    """
    if parameters.get("type", "object") != "object":
        raise InvalidGeneration(f'{where}: the parameters of a function are an object; set type to "object".')
    if forced_calls.nesting(parameters) > forced_calls.MOST_NESTED:
        raise InvalidGeneration(f"{where}: nested more than {forced_calls.MOST_NESTED} levels deep.")
    if len(json.dumps(parameters)) > MOST_SCHEMA_CHARACTERS:
        raise InvalidGeneration(f"{where}: longer than {MOST_SCHEMA_CHARACTERS} characters.")
    total = 0.0
    for node in SchemaTree(parameters).nodes:
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidGeneration(f"{where}: $ref may point only into the same schema (#/$defs/...).")
        total += counted(node)
    if total > MAX_COUNT:
        raise InvalidGeneration(f"{where}: {', '.join(COUNTS)} add up to more than {MAX_COUNT}.")


def thinking_kwargs(conversation: Conversation) -> dict[str, bool]:
    """What a chat template is told of thinking; templates know it by either name."""
    if conversation.enable_thinking is None:
        return {}
    return {"enable_thinking": conversation.enable_thinking, "thinking": conversation.enable_thinking}


def _request(conversation: Conversation, with_tools: bool) -> Any:
    """The request as vLLM's online server would have got it, as far as parsers look at it."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    messages: list[dict[str, Any]] = [{"role": "user", "content": ""}]
    messages += [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ],
        }
        for message in conversation.messages
        if message.tool_calls
    ]
    if not with_tools:
        return ChatCompletionRequest(messages=messages)
    # Without "strict", for which parsers ask for grammars; and a copy, since they take schemas apart.
    tools = json.loads(json.dumps(conversation.tools))
    for tool in tools:
        tool["function"].pop("strict", None)
    return ChatCompletionRequest(messages=messages, tools=tools, tool_choice=AUTO)


def _marks(parser: Any) -> list[str]:
    """What begins and ends the reasoning in an output, as far as the parser says."""
    reasoning_parser = parser.reasoning_parser
    if reasoning_parser is None:
        return []
    return [mark for mark in (reasoning_parser.reasoning_start_str, reasoning_parser.reasoning_end_str) if mark]


def _usable(found: Iterable[Any], offered: set[str]) -> tuple[ToolCall, ...]:
    """The calls that were found; none where one of them cannot be made."""
    calls = tuple(ToolCall(call.id or forced_calls.new_id(), call.name, call.arguments or "{}") for call in found)
    if all(call.name in offered and forced_calls.is_arguments(call.arguments) for call in calls):
        return calls
    return ()
