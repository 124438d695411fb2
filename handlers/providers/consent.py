"""Asks the user before a prompt and its files go to a provider on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from http_client.addresses import is_on_this_machine
from mcp_protocol.calls.answers import Action
from mcp_protocol.calls.question import ask
from mcp_protocol.tools.toolbox import ArgumentError
from settings.providers import VLLM

if TYPE_CHECKING:
    from handlers.providers.attachments import Attachments
    from handlers.providers.requests import GenerateArguments
    from handlers.providers.routing import Choice
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json

FORM: Json = {
    "type": "object",
    "properties": {
        "send": {
            "type": "boolean",
            "title": "Send it",
            "description": "Also allows further prompts to this provider until the connection ends.",
        }
    },
    "required": ["send"],
}


def require_consent(arguments: GenerateArguments, choice: Choice, attachments: Attachments, call: Call) -> None:
    """Asks whether the request may be sent, once for each provider and connection.

    No question is needed for the engines of this server, for the server of VLLM_BASE_URL, which is its engine too, and
    for a provider on this machine.

    Raises: `ArgumentError`, if the user does not allow the request; the exceptions of `ask`.
    """
    provider = choice.provider
    accepted = call.context.connection.accepted
    if provider is None or provider.name == VLLM or provider.name in accepted or is_on_this_machine(provider.url):
        return
    answer = ask(call, FORM, _message(arguments, choice, attachments), "send_to_provider")
    if answer.action is Action.NOT_ASKED:
        return
    if answer.action is Action.ACCEPTED and answer.content["send"]:
        accepted.add(provider.name)
        return
    did = "closed the question without an answer" if answer.action is Action.CANCELLED else "declined"
    raise ArgumentError(
        f"The user was asked whether to send this to {provider.name} ({provider.host}), and {did}. Nothing was sent. "
        "Do not try again unless the user asks for it."
    )


def _message(arguments: GenerateArguments, choice: Choice, attachments: Attachments) -> str:
    assert choice.provider is not None
    n_letters = len(arguments.prompt) + len(arguments.system_prompt or "")
    what = [f"a prompt of {n_letters:,} characters"]
    kinds = [each.kind for each in attachments.listed]
    for kind, name in (("image", "image"), ("text", "text file"), ("audio", "recording"), ("video", "video")):
        if count := kinds.count(kind):
            what.append(f"{count} {name}{'' if count == 1 else 's'}")
    n_bytes = [each.n_bytes for each in attachments.listed]
    size = f" (files of {sum(filter(None, n_bytes)):,} bytes)" if any(n_bytes) else ""
    listed = what[0] if len(what) == 1 else f"{', '.join(what[:-1])} and {what[-1]}"
    return (
        f"Send {listed}{size} to the model {choice.model.id} of the provider {choice.name} ({choice.provider.host})? "
        "It leaves this machine, and the provider may charge for it."
    )
