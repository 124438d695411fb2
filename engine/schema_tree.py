"""Where in a JSON document the schemas are: a name means a keyword only where a schema stands.

A property may be called `default` or `items`, and what lies below `examples` is data until a `$ref` points at it. Each
part is looked at once, whatever refers to it, so a walk takes time in proportion to the document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords whose value gives each schema a name."""
BELOW = frozenset(
    {
        "items",
        "prefixItems",
        "additionalItems",
        "unevaluatedItems",
        "contains",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "contentSchema",
    }
)
"""Keywords whose schemas hold for a part of the value."""
ALTERNATIVES = frozenset({"anyOf", "oneOf", "not", "if", "then", "else"})
BESIDE = ALTERNATIVES | {"allOf"}
"""Keywords whose schemas hold for the same value."""
REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
CONSTRAINTS = frozenset(
    {
        "enum",
        "const",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
        "required",
        "dependentRequired",
        "properties",
        "patternProperties",
        "dependentSchemas",
        "dependencies",
    }
    | BELOW
)
"""Keywords that say something of a value by themselves, but for `type`."""
_PARTS = BELOW | {"properties", "patternProperties", "enum", "const"}
_OTHER_BASE = ("$id", "id")


class SchemaTree:
    """The schemas of one JSON document.

    Attributes:
        nodes: all objects that may act as a schema.
        is_plain: whether that is known exactly. Where a reference cannot be followed here (an anchor, an `$id`), every
            object of the document is among the nodes.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self.is_plain = True
        self.nodes = self._reachable()
        if not self.is_plain:
            self.nodes = _objects(root)

    def crowded(self) -> frozenset[int] | None:
        """The `id` of each node beside which another speaks of the same value, so that neither may be changed alone.

        `None` where that cannot be told. A wrapper that holds one schema, as `allOf` with a single `$ref`, crowds none.
        """
        crowd: set[int] = set()
        deep: set[int] = set()
        for node in self.nodes:
            if "patternProperties" in node and sum(map(len, _by_name(node))) > 1:
                self._crowd(
                    _schemas_below(node), deep, is_deep=True
                )  # a name may match several patterns, and be listed
            parts = self._parts(node)
            own = any(name in CONSTRAINTS for name in node)
            if own + sum(any(map(_speaks, part)) for part in parts) < 2:
                if own + len(parts) > 1:
                    crowd.update(id(schema) for part in parts for schema in part if not _speaks(schema))
                continue
            if not self.is_plain:
                return None
            crowd.add(id(node))
            schemas = [schema for part in parts for schema in part]
            n_with_parts = _has_parts(node) + sum(any(map(_may_have_parts, part)) for part in parts)
            if n_with_parts > 1:
                self._crowd([*schemas, *_schemas_below(node)], deep, is_deep=True)
            else:
                self._crowd(schemas, crowd, is_deep=False)
        return frozenset(crowd | deep)

    def _crowd(self, schemas: Iterable[Any], crowd: set[int], *, is_deep: bool) -> None:
        """Adds schemas, what speaks of the same values, and where `is_deep` what speaks of parts of these."""
        left = list(schemas)
        while left:
            node = left.pop()
            if not isinstance(node, dict) or id(node) in crowd:
                continue
            crowd.add(id(node))
            left += (schema for part in self._parts(node) for schema in part)
            if is_deep:
                left += _schemas_below(node)

    def _parts(self, node: dict[str, Any]) -> list[list[Any]]:
        """What else speaks of the node's value: each part a list of schemas of which one or all hold."""
        parts: list[list[Any]] = []
        for name, value in node.items():
            if name == "allOf":
                parts += [[schema] for schema in _listed(value)]
            elif name in ALTERNATIVES:
                parts.append(_listed(value))
            elif name in ("dependentSchemas", "dependencies") and isinstance(value, dict):
                parts.append(list(value.values()))
            elif name in REFERENCES and isinstance(value, str):
                target = self._target(value)
                parts.append([target] if target is not None else [])
        return parts

    def _reachable(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        seen: set[int] = set()
        left = [self._root]
        while left:
            node = left.pop()
            if not isinstance(node, dict | list) or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, list):
                left += node
                continue
            found.append(node)
            if node is not self._root and any(isinstance(node.get(name), str) for name in _OTHER_BASE):
                self.is_plain = False
            for name, value in node.items():
                if name in NAMED:
                    left += value.values() if isinstance(value, dict) else ()
                elif name in BELOW or name in BESIDE:
                    left.append(value)
                elif name in REFERENCES and isinstance(value, str):
                    left.append(self._target(value))
        return found

    def _target(self, reference: str) -> Any:
        """What a reference points at; `None`, and no plain tree, where it cannot be followed here."""
        node = self._root
        if reference != "#":
            pointer = unquote(reference)
            if not pointer.startswith("#/"):
                self.is_plain = False
                return None
            for step in pointer[2:].split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                if isinstance(node, dict) and name in node:
                    node = node[name]
                elif isinstance(node, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(node):
                    node = node[int(name[:9])]
                else:
                    self.is_plain = False
                    return None
        return node


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _speaks(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return schema is False
    return any(name in CONSTRAINTS or name in BESIDE or name in REFERENCES for name in schema)


def _has_parts(node: dict[str, Any]) -> bool:
    """Whether a schema's own keywords speak of what lies inside the value."""
    return any(name in _PARTS for name in node)


def _may_have_parts(schema: Any) -> bool:
    return isinstance(schema, dict) and any(name in _PARTS or name in BESIDE or name in REFERENCES for name in schema)


def _by_name(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that an object's node has by the names of properties."""
    found = (node.get(keyword) for keyword in ("properties", "patternProperties"))
    return [named for named in found if isinstance(named, dict)]


def _schemas_below(node: dict[str, Any]) -> Iterable[Any]:
    """The schemas that hold for parts of the node's value."""
    for named in _by_name(node):
        yield from named.values()
    for name, value in node.items():
        if name in BELOW:
            yield from _listed(value)


def _objects(document: Any) -> list[dict[str, Any]]:
    """All objects of a JSON document, data among them."""
    found, left = [], [document]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            found.append(node)
            left += node.values()
        elif isinstance(node, list):
            left += node
    return found
