"""The providers family of tools."""

from __future__ import annotations

from handlers.providers import providers
from handlers.providers.requests import GenerateArguments
from handlers.providers.validation import ValidateArguments, Validation, validate_multimodal_request
from mcp_protocol.tools.toolbox import Annotations, Tool

TOOLS = (
    Tool(
        name="generate_multimodal_response",
        title="Ask a model of any provider",
        description=(
            "Sends one prompt with images and files to a model of any configured provider: OpenAI, DashScope, other "
            "OpenAI-compatible services, or this server's own engine (local). Use it when the user names a hosted "
            "model or a provider; for the model on this machine, and for conversations, use chat_completion. Hosted "
            "models may cost money and receive what is sent. Returns the reply as text. Stores nothing."
        ),
        arguments=GenerateArguments,
        handler=providers.generate_multimodal_response,
        result=providers.MultimodalResult,
        text=lambda result: str(result.text),
        annotations=Annotations(read_only=False, open_world=True),
    ),
    Tool(
        name="list_available_providers",
        title="List providers and their models",
        description=(
            "Lists all providers and their models, asked now: whether each provider is configured (if not, which "
            "variable to set), whether it responds, and what its models accept if it reports that. Costs nothing."
        ),
        arguments=providers.ListArguments,
        handler=providers.list_available_providers,
        result=providers.ProviderList,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="validate_multimodal_request",
        title="Check a request to a provider",
        description=(
            "Checks the arguments of generate_multimodal_response without spending anything: whether the provider is "
            "configured and has the model, whether images and files are readable and accepted, their sizes, and about "
            "how many tokens they take. valid is false if the request would fail, with the reasons in errors; no reply "
            "is generated."
        ),
        arguments=ValidateArguments,
        handler=validate_multimodal_request,
        result=Validation,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
)
