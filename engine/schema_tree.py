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
KEYWORDS = CONSTRAINTS | NAMED | BESIDE | REFERENCES
_PARTS = BELOW | {"properties", "patternProperties", "enum", "const"}
_OTHER_BASE = ("$id", "id")
MAX_HOPS = 8
"""References followed to the schema that lists an object's properties."""


class SchemaTree:
    """The schemas of one JSON document.

    Attributes:
        nodes: all objects that may act as a schema.
        is_plain: whether that is known exactly. Where a reference cannot be followed here (an anchor, an `$id`), every
            object of the document is among the nodes.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._listed: dict[int, Any] = {}
        self.is_plain = True
        self.nodes = self._reachable()
        self._known = {id(node) for node in self.nodes} if self.is_plain else set()
        if not self.is_plain:
            self.nodes = _objects(root)

    def is_schema(self, value: dict[str, Any]) -> bool:
        """Whether an object certainly acts as a schema."""
        return id(value) in self._known

    def crowded(self) -> frozenset[int] | None:
        """The `id` of each node beside which another speaks of the same value, so that neither may be changed alone.

        `None` where that cannot be told. A wrapper that holds one schema, as `allOf` with a single `$ref`, crowds none.
        """
        crowd: set[int] = set()
        deep: set[int] = set()
        for node in self.nodes:
            if "patternProperties" in node and sum(map(len, _by_name(node))) > 1:
                # A name may match several patterns, and be listed.
                self._crowd(_schemas_below(node), deep, is_deep=True)
            parts = self._parts(node)
            own = any(name in CONSTRAINTS for name in node)
            if own + sum(any(map(_speaks, part)) for part in parts) < 2 or self._one_lists_all(node, parts):
                if own + len(parts) > 1:
                    crowd.update(id(said) for part in parts for said in part if not _speaks(said) or _only_asks(said))
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

    def _one_lists_all(self, node: dict[str, Any], parts: list[list[Any]]) -> bool:
        """Whether but one schema speaks of a node's value, and the others only ask for properties that it lists."""
        asked = [schema for part in parts if all(map(_only_asks, part)) for schema in part]
        speaking = [part for part in parts if any(map(_speaks, part)) and not all(map(_only_asks, part))]
        own = {name: value for name, value in node.items() if name in CONSTRAINTS}
        if _only_asks(own):
            asked.append(own)
        elif own:
            speaking.append([node])
        if len(speaking) != 1 or len(speaking[0]) != 1:
            return False
        listed = self._listed_by(speaking[0][0])
        return all(name in listed for schema in asked for name in schema["required"])

    def _listed_by(self, schema: Any, n_hops: int = MAX_HOPS) -> Any:
        """The properties that a schema lists, or the one that it refers to."""
        if not isinstance(schema, dict) or not n_hops:
            return ()
        if isinstance(listed := schema.get("properties"), dict):
            return listed
        if id(schema) not in self._listed:  # looked at once each: a reference may be as long as the document
            reference, all_of = schema.get("$ref"), schema.get("allOf")
            only = all_of[0] if isinstance(all_of, list) and len(all_of) == 1 else None
            target = self._target(reference) if isinstance(reference, str) else only
            self._listed[id(schema)] = self._listed_by(target, n_hops - 1)
        return self._listed[id(schema)]

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


def _only_asks(schema: Any) -> bool:
    """Whether all that a schema says is which properties there have to be."""
    if not isinstance(schema, dict) or not isinstance(asked := schema.get("required"), list):
        return False
    spoken = [name for name in schema if name in CONSTRAINTS or name in BESIDE or name in REFERENCES]
    return spoken == ["required"] and all(isinstance(name, str) for name in asked)


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
