"""The resources and prompts that the conformance suite asks for by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcp_protocol.jsonrpc import Json
from mcp_protocol.resources.prompts import Prompt, PromptArgument
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.resources.resource import Contents, Resource, ResourceKind, ResourceNotFound, ResourceTemplate
from mcp_protocol.versions import LIST_CACHE
from tests.conformance.fixture_media import RED_DOT, red_dot_block, resource_block

TEMPLATE_BEGIN, TEMPLATE_END = "test://template/", "/data"


class PromptWithBlock(Prompt, frozen=True):
    """A prompt that shows something before its text; those of the real server are text alone."""

    block: Callable[[Mapping[str, str]], Json]

    def result(self, given: Any) -> Json:
        """The prompt filled in, as `prompts/get` shows it."""
        filled = super().result(given)
        shown = {"role": "user", "content": self.block(given or {})}
        return {**filled, "messages": [shown, *filled["messages"]]}


def resource_registry() -> ResourceRegistry:
    """All of them."""
    return ResourceRegistry(KINDS, PROMPTS, None)


def _fixed(name: str, mime_type: str, data: str | bytes) -> ResourceKind:
    """One resource that is always there and never changes."""
    uri = f"test://{name}"

    def listed(services: Any) -> Iterator[Resource]:
        yield Resource(uri, name, name, "For the conformance suite.", mime_type)

    return ResourceKind(
        prefix=uri,
        resources=listed,
        read=lambda uri, services: Contents(mime_type, data, ""),
        version=lambda uri, services: 1,
        cache=LIST_CACHE,
    )


def _read_template(uri: str, services: Any) -> Contents:
    identifier = uri.removeprefix(TEMPLATE_BEGIN).removesuffix(TEMPLATE_END)
    if not identifier or "/" in identifier or not uri.endswith(TEMPLATE_END):
        raise ResourceNotFound
    data = {"id": identifier, "templateTest": True, "data": f"Data for ID: {identifier}"}
    return Contents("application/json", json.dumps(data), "")


KINDS = (
    _fixed("static-text", "text/plain", "This is the content of the static text resource."),
    _fixed("static-binary", "image/png", RED_DOT),
    _fixed("watched-resource", "text/plain", "Watched."),
    ResourceKind(
        prefix=TEMPLATE_BEGIN,
        resources=lambda services: (),
        read=_read_template,
        version=lambda uri, services: 1,
        cache=LIST_CACHE,
        template=ResourceTemplate(f"{TEMPLATE_BEGIN}{{id}}{TEMPLATE_END}", "template", mime_type="application/json"),
    ),
)

PROMPTS = (
    Prompt(
        "test_simple_prompt",
        "conformance",
        "Simple",
        "A prompt without arguments.",
        (),
        lambda given: "This is a simple prompt for testing.",
    ),
    Prompt(
        "test_prompt_with_arguments",
        "conformance",
        "Arguments",
        "A prompt with two arguments.",
        (
            PromptArgument("arg1", "First test argument", True, lambda value, services: [f"{value}ed", f"{value}ing"]),
            PromptArgument("arg2", "Second test argument", True),
        ),
        lambda given: f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'",
    ),
    PromptWithBlock(
        "test_prompt_with_embedded_resource",
        "conformance",
        "Resource",
        "A prompt with a resource in it.",
        (PromptArgument("resourceUri", "URI of the resource to embed", True),),
        lambda given: "Please process the embedded resource above.",
        lambda given: resource_block(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
    ),
    PromptWithBlock(
        "test_prompt_with_image",
        "conformance",
        "Image",
        "A prompt with a picture in it.",
        (),
        lambda given: "Please analyze the image above.",
        lambda given: red_dot_block(),
    ),
)
