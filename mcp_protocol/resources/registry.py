"""Resources and prompts: lists, contents and completions from the two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mcp_protocol.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, Json, ProtocolError
from mcp_protocol.pages import page
from mcp_protocol.resources.prompts import Prompt, PromptError
from mcp_protocol.resources.resource import Complete, ResourceError, ResourceKind, ResourceNotFound
from mcp_protocol.versions import Revision

MAX_VALUES = 100
"""The limit of MCP for one result of `completion/complete`."""
MAX_URI_CHARACTERS = 8_192


class ResourceRegistry:
    """All kinds of resources and all prompts. Invalid parameters raise `ProtocolError`.

    Arguments:
        kinds, prompts: the rows of the tables.
        services: passed to every function of a row.
        prepare: run once by a worker, soon after the registry is created.
    """

    def __init__(
        self,
        kinds: Iterable[ResourceKind],
        prompts: Iterable[Prompt],
        services: Any,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.prepare = prepare
        self._kinds = sorted(kinds, key=lambda kind: len(kind.prefix), reverse=True)
        self._listed_kinds = self._kinds[::-1]
        self._prompts = {prompt.name: prompt for prompt in prompts}
        self._services = services

    def resources(self, params: Json) -> Json:
        """A page of the current resources."""
        listed = [resource for kind in self._listed_kinds for resource in kind.resources(self._services)]
        return page("resources", listed, params)

    def templates(self, params: Json) -> Json:
        """A page of the resource templates."""
        listed = [kind.template for kind in self._listed_kinds if kind.template is not None]
        return page("resourceTemplates", listed, params)

    def prompts(self, params: Json) -> Json:
        """A page of the prompts."""
        return page("prompts", [prompt.listing() for prompt in self._prompts.values()], params)

    def prompt(self, params: Json) -> Json:
        """The result of `prompts/get`."""
        prompt = self._prompt(params.get("name"))
        try:
            return prompt.result(params.get("arguments"))
        except PromptError as error:
            raise ProtocolError(INVALID_PARAMS, f"Invalid params: {error}") from None

    def kind(self, params: Json, revision: Revision) -> tuple[str, ResourceKind]:
        """The URI in the parameters and its kind; the resource need not exist."""
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: uri must be a string")
        kind = self._kind(uri)
        if kind is None:
            raise not_found(uri, revision)
        return uri, kind

    def read(self, uri: str, kind: ResourceKind, revision: Revision) -> Json:
        """The result of `resources/read`."""
        try:
            return {"contents": [kind.read(uri, self._services).as_json(uri)]}
        except ResourceNotFound:
            raise not_found(uri, revision) from None
        except ResourceError as error:
            raise ProtocolError(INTERNAL_ERROR, str(error), {"uri": uri}) from None

    def version(self, uri: str) -> object:
        """A value that changes with a resource's contents; None while the resource does not exist.

        Raises: `ResourceNotFound` for a URI of no kind.
        """
        kind = self._kind(uri)
        if kind is None:
            raise ResourceNotFound
        return kind.version(uri, self._services)

    def list_version(self) -> object:
        """A value that changes with the list of resources."""
        return tuple(resource.uri for kind in self._kinds for resource in kind.resources(self._services))

    def completion(self, params: Json) -> Json:
        """The result of `completion/complete`."""
        argument = params.get("argument")
        name = argument.get("name") if isinstance(argument, dict) else None
        value = argument.get("value") if isinstance(argument, dict) else None
        if not isinstance(name, str) or not isinstance(value, str):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: argument must have a name and a value, both strings")
        known = self._completers(params.get("ref"))
        if name not in known:
            text = f"Invalid params: unknown argument {name[:60]!r}; known: {', '.join(known)}"
            raise ProtocolError(INVALID_PARAMS, text)
        complete = known[name]
        matches = complete(value, self._services) if complete is not None else ()
        values = list(matches[:MAX_VALUES])
        return {"completion": {"values": values, "total": len(matches), "hasMore": len(matches) > len(values)}}

    def _completers(self, ref: Any) -> dict[str, Complete | None]:
        """The arguments or variables of a reference, with their completions."""
        kind_of_ref = ref.get("type") if isinstance(ref, dict) else None
        if kind_of_ref == "ref/prompt":
            return {argument.name: argument.complete for argument in self._prompt(ref.get("name")).arguments}
        if kind_of_ref == "ref/resource":
            for kind in self._kinds:
                if kind.template is not None and kind.template.uri_template == ref.get("uri"):
                    return dict(kind.complete)
            raise ProtocolError(INVALID_PARAMS, "Invalid params: ref.uri is not a resource template")
        raise ProtocolError(INVALID_PARAMS, "Invalid params: ref.type must be ref/prompt or ref/resource")

    def _prompt(self, name: Any) -> Prompt:
        if not isinstance(name, str):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: a prompt's name must be a string")
        if name not in self._prompts:
            raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {name[:200]}")
        return self._prompts[name]

    def _kind(self, uri: str) -> ResourceKind | None:
        if len(uri) > MAX_URI_CHARACTERS:
            return None
        return next((kind for kind in self._kinds if kind.serves(uri)), None)


def not_found(uri: str, revision: Revision) -> ProtocolError:
    """The error for an unknown URI."""
    return ProtocolError(revision.not_found_code, "Resource not found", {"uri": uri[:MAX_URI_CHARACTERS]})
