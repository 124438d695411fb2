"""The arguments that shape a reply, shared by the chat tools, and the engine's request made from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from engine.interface import Conversation
from handlers.chat.logprobs import LogprobsArgument, TopLogprobsArgument, n_logprobs
from handlers.chat.response_format import ResponseFormatArgument, response_format_of
from handlers.chat.sampling import sampling_of
from handlers.chat.tool_calls import ToolArguments, tool_choice_of, tools_of
from handlers.model.model import ModelName, control_of

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

LoraArgument = Annotated[str, Meta(max_length=256, description="Name of a LoRA adapter that the server has.")]


class ReplyArguments(ToolArguments, kw_only=True, frozen=True):
    """The model, sampling, tools, and the format of the reply."""

    model: ModelName | None = None
    response_format: ResponseFormatArgument | None = None
    logprobs: LogprobsArgument = False
    top_logprobs: TopLogprobsArgument | None = None
    lora: LoraArgument | None = None


def request_of(arguments: ReplyArguments, call: Call, services: Services) -> Conversation:
    """The engine's request for a call, checked by the engine, still without messages.

    Raises: `ArgumentError` and `InvalidGeneration`, which name the argument; `UnknownModel`.
    """
    sampling = sampling_of(arguments, services.settings.sampling)
    request = Conversation(
        messages=(),
        sampling=dataclasses.replace(sampling, logprobs=n_logprobs(arguments.logprobs, arguments.top_logprobs)),
        response_format=response_format_of(arguments.response_format),
        tools=tools_of(arguments.tools or ()),
        tool_choice=tool_choice_of(arguments.tool_choice),
        enable_thinking=arguments.enable_thinking,
        lora=arguments.lora,
    )
    return services.models.engine(arguments.model).check(request, control_of(call, None))
