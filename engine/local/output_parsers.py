"""Parses a model's output into text, reasoning and tool calls.

vLLM's own parsers do that, set up as in vLLM's online server; `vllm.LLM` itself only renders tools into the prompt.
What a parser cannot read stays text, and so does a call of a function that was not offered, or with arguments that are
not a JSON object.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineUnavailable
from engine.interface import Conversation, ToolCall
from engine.prompts import forced_calls
from engine.prompts.forced_calls import AUTO, NONE
from engine.prompts.rendering import thinking_kwargs, without_half_label
from engine.schemas.bounds import bounded
from engine.schemas.checks import closed
from settings import EngineSettings

log = logging.getLogger("engine")


@dataclass(frozen=True, slots=True)
class Output:
    """A parsed output."""

    text: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class PlainOutputParser:
    """Parses the output of a request without tools and reasoning: all of it is text."""

    def constrain(self, params: Any) -> None:
        """Sets what the parser needs in vLLM's sampling parameters."""

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """The part of a step's new text that certainly belongs to the final text."""
        return text

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The parsed complete output."""
        return Output(text)

    def cut_off(self, text: str) -> str:
        """What of an output that was cut off belongs to the text."""
        return text


class LineOutputParser(PlainOutputParser):
    """Parses the output of a base model, which completes a line of `role: content`.

    The space after the label does not belong to the text. Neither does the label of the next line, which may be
    incomplete where the output is cut off.
    """

    def __init__(self) -> None:
        self._text = ""
        self._n_streamed = 0

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """The new text without leading spaces and without what may become a label."""
        self._text = (self._text + text).lstrip(" ") if not self._n_streamed else self._text + text
        certain = without_half_label(self._text)
        new, self._n_streamed = certain[self._n_streamed :], max(self._n_streamed, len(certain))
        return new

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The text without leading spaces."""
        return Output(text.lstrip(" "))

    def cut_off(self, text: str) -> str:
        """The text without an incomplete label at its end."""
        return without_half_label(text)


class OutputParsers:
    """The parsers of one loaded model.

    Arguments:
        llm: the loaded `vllm.LLM`.
        tool_parser: vLLM's name of the parser for tool calls; `None` where the model has none.
        reasoning_parser: vLLM's name of the parser for reasoning; `None` where the model has none.
        writes_lines: whether the model has no chat template and completes a line of `role: content`.
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

    def output_parser(self, conversation: Conversation) -> PlainOutputParser:
        """The parser for one conversation's output."""
        offers = bool(conversation.tools) and conversation.tool_choice != NONE
        if offers and conversation.tool_choice != AUTO:
            return ForcedCallOutputParser(conversation, self._plain_or_vllm(conversation, with_tools=False))
        return self._plain_or_vllm(conversation, with_tools=offers and self._tool_parser is not None)

    def chat_options(self, conversation: Conversation, template_tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The options of `LLM.enqueue_chat` for tools and thinking.

        With tool_choice none, the tools are left out of the prompt: the model could only write calls that nobody
        makes.

        Arguments:
            conversation: its tool_choice and enable_thinking.
            template_tools: its tools as a chat template takes them.
        """
        options: dict[str, Any] = {}
        if template_tools and conversation.tool_choice != NONE:
            options["tools"] = list(template_tools)
        if kwargs := thinking_kwargs(conversation):
            options["chat_template_kwargs"] = kwargs
        return options

    def new_parser(
        self, request: Any, thinking: dict[str, bool], *, with_tools: bool, with_reasoning: bool = True
    ) -> Any:
        """A new parser of vLLM for one output, since they keep state; `None` where there is nothing to parse."""
        from vllm.parser import ParserManager

        config = self._llm.model_config
        cls = ParserManager.get_parser(
            tool_parser_name=self._tool_parser if with_tools else None,
            reasoning_parser_name=self._reasoning_parser if with_reasoning else None,
            enable_auto_tools=with_tools,
            is_harmony=getattr(config.hf_config, "model_type", None) == "gpt_oss",
        )
        if cls is None:
            return None
        return cls(self._llm.get_tokenizer(), request.tools, chat_template_kwargs=thinking, model_config=config)

    def _plain_or_vllm(self, conversation: Conversation, with_tools: bool) -> PlainOutputParser:
        if not with_tools and self._reasoning_parser is None:
            return LineOutputParser() if self._writes_lines else PlainOutputParser()
        return VllmOutputParser(self, conversation, with_tools)

    def _try(self, variable: str, name: str, with_tools: bool) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        try:
            self.new_parser(
                ChatCompletionRequest(messages=[]), {}, with_tools=with_tools, with_reasoning=not with_tools
            )
        except Exception as error:
            log.error("The parser %s cannot be used.", name, exc_info=error)
            raise EngineUnavailable(
                f"Failed to initialize vLLM: the parser in {variable} does not fit the model: its tokenizer lacks what "
                "the parser looks for. Set it to the parser of the model's family, or leave it empty."
            ) from None


class ForcedCallOutputParser(PlainOutputParser):
    """Parses an output that has to be tool calls, in the JSON form of `engine.prompts.forced_calls`.

    Arguments:
        conversation: its tools and tool_choice.
        before: the parser for the reasoning before the calls.
    """

    def __init__(self, conversation: Conversation, before: PlainOutputParser) -> None:
        self._choice = conversation.tool_choice
        self._schema = bounded(closed(forced_calls.schema_of(conversation.tools, self._choice)))
        self._before = before

    def constrain(self, params: Any) -> None:
        """Makes the calls the only possible output, whatever the response format."""
        from vllm.sampling_params import StructuredOutputsParams

        self._before.constrain(params)
        params.structured_outputs = StructuredOutputsParams(json=self._schema)

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """Nothing: calls are not text."""
        return ""

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The calls, or text where they were cut off."""
        output = self._before.parse(text, token_ids, prompt_token_ids)
        tool_calls = forced_calls.calls_in(output.text, self._choice)
        return Output("", output.reasoning, tool_calls) if tool_calls else output


class VllmOutputParser(PlainOutputParser):
    """Parses one output with the model's parsers in vLLM.

    Arguments:
        parsers: the model's parsers.
        conversation: its tools and messages.
        with_tools: whether its tools may be called.
    """

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
        """Keeps the special tokens in the text that the parsers look for.

        A grammar that a parser proposes for the calls is left out: the engine's grammar backend may not support it.
        """
        for name in ("skip_special_tokens", "spaces_between_special_tokens"):
            if not getattr(self._request, name):
                setattr(params, name, False)

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        """The part of a step's new text that certainly belongs to the final text; none after a parser failed."""
        if not self._streaming:
            return ""
        try:
            if self._stream is None:
                self._stream = self._parser(self._with_tools)
            delta = self._stream.parse_delta(
                text, list(token_ids), self._request, list(prompt_token_ids), finished=False
            )
        except BaseException:  # some are compiled, and panic
            log.warning("A parser failed on a part of an output; the rest is streamed at its end.", exc_info=True)
            self._streaming = False
            return ""
        content: str = (delta.content or "") if delta is not None else ""
        # Otherwise the parser assumed that the prompt had closed the reasoning; `parse` corrects that at the end.
        self._streaming = not any(mark in content for mark in _marks(self._stream))
        return content if self._streaming else ""

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The parsed complete output; all of it is text where a parser fails."""
        try:
            reasoning, content, found = self._parse_with(text, token_ids, prompt_token_ids, self._with_tools)
            tool_calls = _usable(found or (), self._offered)
            if not tool_calls and (found or not (content or reasoning)):
                # Invalid calls, or calls that the parser dropped because it could not read them.
                reasoning, content, _ = self._parse_with(text, token_ids, prompt_token_ids, with_tools=False)
        except BaseException:
            log.warning("A parser failed; its output is returned as text.", exc_info=True)
            return Output(text)
        return Output(content or "", reasoning or None, tool_calls)

    def _parse_with(
        self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int], with_tools: bool
    ) -> tuple[str | None, str | None, Any]:
        parser = self._parser(with_tools)
        if parser is not None and self._prompt_closes_reasoning(parser, text, prompt_token_ids):
            parser = self._parser(with_tools, with_reasoning=False)
        if parser is None:
            return None, text, None
        parser.set_prompt_token_ids(prompt_token_ids)
        parsed: tuple[str | None, str | None, Any] = parser.parse(
            text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
        )
        return parsed

    def _prompt_closes_reasoning(self, parser: Any, text: str, prompt_token_ids: Sequence[int]) -> bool:
        """Whether the prompt itself has closed the reasoning, as chat templates do where thinking is off. Some parsers
        look at the output alone, and parse all of it as reasoning that has not ended."""
        if parser.reasoning_parser is None or not parser.is_reasoning_end(list(prompt_token_ids)):
            return False
        return not any(mark in text for mark in _marks(parser))

    def _parser(self, with_tools: bool, with_reasoning: bool = True) -> Any:
        return self._parsers.new_parser(
            self._request, self._thinking, with_tools=with_tools, with_reasoning=with_reasoning
        )


def check_names(settings: EngineSettings) -> None:
    """Rejects names of parsers that this vLLM does not have; raises `EngineUnavailable`, which lists those it has."""
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


def _request(conversation: Conversation, with_tools: bool) -> Any:
    """The request of vLLM's online server, with the fields that its parsers use."""
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
    # Without "strict", which makes parsers propose grammars; a copy, since parsers change schemas.
    tools = json.loads(json.dumps(conversation.tools))
    for tool in tools:
        tool["function"].pop("strict", None)
    return ChatCompletionRequest(messages=messages, tools=tools, tool_choice=AUTO)


def _marks(parser: Any) -> list[str]:
    """The texts that begin and end the reasoning in an output; none where the parser does not say."""
    reasoning_parser = parser.reasoning_parser
    if reasoning_parser is None:
        return []
    return [mark for mark in (reasoning_parser.reasoning_start_str, reasoning_parser.reasoning_end_str) if mark]


def _usable(found: Iterable[Any], offered: set[str]) -> tuple[ToolCall, ...]:
    """The parsed calls; none where one of them is invalid."""
    calls = tuple(ToolCall(call.id or forced_calls.new_id(), call.name, call.arguments or "{}") for call in found)
    if all(call.name in offered and forced_calls.is_arguments(call.arguments) for call in calls):
        return calls
    return ()
