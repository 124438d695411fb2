"""The arguments that say what an answer is to be, shared by the chat tools, and the engine's request made of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from engine.interface import Conversation
from handlers.adapters import LoraArgument, adapter_of
from handlers.functions import FunctionArguments, with_functions
from handlers.logprobs import LogprobsArgument, TopLogprobsArgument, n_logprobs
from handlers.model import control_of
from handlers.response_format import ResponseFormatArgument, response_format_of
from handlers.sampling import sampling_of

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call


class AnswerArguments(FunctionArguments, kw_only=True, frozen=True):
    """How to sample, what may be called, and in what form to answer."""

    response_format: ResponseFormatArgument | None = None
    logprobs: LogprobsArgument = False
    top_logprobs: TopLogprobsArgument | None = None
    lora: LoraArgument | None = None


def request_of(arguments: AnswerArguments, call: Call, services: Services) -> Conversation:
    """What a call asks of the engine, its messages still missing.

    Raises: `ArgumentError` for arguments that do not go together or that the engine cannot follow.
    """
    settings = services.settings

    def vet(schema: dict[str, Any]) -> None:
        services.engine.vet(schema, control_of(call, None))

    sampling = sampling_of(arguments, settings.sampling)
    request = Conversation(
        messages=(),
        sampling=dataclasses.replace(sampling, logprobs=n_logprobs(arguments.logprobs, arguments.top_logprobs)),
        response_format=response_format_of(arguments.response_format, arguments, vet),
        lora=adapter_of(arguments.lora, settings.engine),
    )
    return with_functions(request, arguments, settings.engine, vet)
