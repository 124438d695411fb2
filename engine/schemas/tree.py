"""Finds the schemas in a JSON document: a name is a keyword only in a schema.

A property may be called `default` or `items`, and values below `examples` are data unless a `$ref` points at them. Each
part is visited once, whatever refers to it, so a walk takes time proportional to the document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords whose value maps names to schemas."""
BELOW = frozenset({"items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "contentSchema"}) | {
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
}
"""Keywords whose schemas apply to a part of the value."""
ALTERNATIVES = frozenset({"anyOf", "oneOf", "not", "if", "then", "else"})
IN_PLACE = ALTERNATIVES | {"allOf"}
"""Keywords whose schemas apply to the same value (JSON Schema's in-place applicators)."""
REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
CONSTRAINTS = (
    BELOW
    | {"enum", "const", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"minLength", "maxLength", "pattern", "format"}
    | {"minItems", "maxItems", "uniqueItems", "minContains", "maxContains"}
    | {"minProperties", "maxProperties", "required", "dependentRequired"}
    | {"properties", "patternProperties", "dependentSchemas", "dependencies"}
)
"""Keywords that constrain a value by themselves, except `type`."""
KEYWORDS = CONSTRAINTS | NAMED | IN_PLACE | REFERENCES
_PARTS = BELOW | {"properties", "patternProperties", "enum", "const"}
_CONSTRAINING = CONSTRAINTS | IN_PLACE | REFERENCES
_MAY_HAVE_PARTS = _PARTS | IN_PLACE | REFERENCES
_OTHER_BASE = ("$id", "id")
MAX_HOPS = 8
"""References that are followed to the schema that lists an object's properties."""


class SchemaTree:
    """The schemas of one JSON document.

    Attributes:
        nodes: all objects that may be schemas.
        is_exact: whether `nodes` has only schemas. If a reference cannot be followed (an anchor, an `$id`), it has
            every object of the document.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._listed: dict[int, Any] = {}
        self.is_exact = True
        self.nodes = self._reachable()
        self._known = {id(node) for node in self.nodes} if self.is_exact else set()
        if not self.is_exact:
            self.nodes = _objects(root)

    def is_schema(self, value: dict[str, Any]) -> bool:
        """Whether an object certainly is a schema."""
        return id(value) in self._known

    def shared(self) -> frozenset[int] | None:
        """The `id` of each node whose value another node constrains too, so that neither may be changed alone.

        `None` where this is unknown. A wrapper of one schema, such as `allOf` with a single `$ref`, does not count.
        """
        shared: set[int] = set()
        deep: set[int] = set()
        for node in self.nodes:
            if "patternProperties" in node and sum(map(len, _by_name(node))) > 1:
                # A name may match several patterns, and be a listed property.
                self._share(_schemas_below(node), deep, is_deep=True)
            parts = self._parts(node)
            own = any(name in CONSTRAINTS for name in node)
            if own + sum(any(map(_constrains, part)) for part in parts) < 2 or self._one_lists_all(node, parts):
                if own + len(parts) > 1:
                    others = (schema for part in parts for schema in part)
                    shared.update(id(other) for other in others if not _constrains(other) or _only_requires(other))
                continue
            if not self.is_exact:
                return None
            shared.add(id(node))
            schemas = [schema for part in parts for schema in part]
            n_with_parts = _has_parts(node) + sum(any(map(_may_have_parts, part)) for part in parts)
            if n_with_parts > 1:
                self._share([*schemas, *_schemas_below(node)], deep, is_deep=True)
            else:
                self._share(schemas, shared, is_deep=False)
        return frozenset(shared | deep)

    def _share(self, schemas: Iterable[Any], shared: set[int], *, is_deep: bool) -> None:
        """Adds schemas, those for the same values, and if `is_deep` those for parts of the values."""
        left = list(schemas)
        while left:
            node = left.pop()
            if not isinstance(node, dict) or id(node) in shared:
                continue
            shared.add(id(node))
            left += (schema for part in self._parts(node) for schema in part)
            if is_deep:
                left += _schemas_below(node)

    def _one_lists_all(self, node: dict[str, Any], parts: list[list[Any]]) -> bool:
        """Whether one schema constrains a node's value, and the others only require properties that it lists."""
        requiring = [schema for part in parts if all(map(_only_requires, part)) for schema in part]
        constraining = [part for part in parts if any(map(_constrains, part)) and not all(map(_only_requires, part))]
        own = {name: value for name, value in node.items() if name in CONSTRAINTS}
        if _only_requires(own):
            requiring.append(own)
        elif own:
            constraining.append([node])
        if len(constraining) != 1 or len(constraining[0]) != 1:
            return False
        listed = self._listed_by(constraining[0][0])
        return all(name in listed for schema in requiring for name in schema["required"])

    def _listed_by(self, schema: Any, n_hops: int = MAX_HOPS) -> Any:
        """The properties that a schema, or the schema that it refers to, lists."""
        if not isinstance(schema, dict) or not n_hops:
            return ()
        if isinstance(listed := schema.get("properties"), dict):
            return listed
        if id(schema) not in self._listed:  # each is resolved once: a reference may be as long as the document
            reference, all_of = schema.get("$ref"), schema.get("allOf")
            only = all_of[0] if isinstance(all_of, list) and len(all_of) == 1 else None
            target = self._target(reference) if isinstance(reference, str) else only
            self._listed[id(schema)] = self._listed_by(target, n_hops - 1)
        return self._listed[id(schema)]

    def _parts(self, node: dict[str, Any]) -> list[list[Any]]:
        """The other schemas for the node's value: each part is a list of schemas of which one or all apply."""
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
                self.is_exact = False
            for name, value in node.items():
                if name in NAMED:
                    left += value.values() if isinstance(value, dict) else ()
                elif name in BELOW or name in IN_PLACE:
                    left.append(value)
                elif name in REFERENCES and isinstance(value, str):
                    left.append(self._target(value))
        return found

    def _target(self, reference: str) -> Any:
        """The target of a reference; `None`, and the tree is not exact, if it cannot be followed."""
        node = self._root
        if reference != "#":
            pointer = unquote(reference)
            if not pointer.startswith("#/"):
                self.is_exact = False
                return None
            for step in pointer[2:].split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                if isinstance(node, dict) and name in node:
                    node = node[name]
                elif isinstance(node, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(node):
                    node = node[int(name[:9])]
                else:
                    self.is_exact = False
                    return None
        return node


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _constrains(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return schema is False
    # An intersection takes the time of the keywords only: many references may point at an object with many names.
    return bool(schema.keys() & _CONSTRAINING)


def _only_requires(schema: Any) -> bool:
    """Whether a schema only requires properties."""
    if not isinstance(schema, dict) or not isinstance(required := schema.get("required"), list):
        return False
    return schema.keys() & _CONSTRAINING == {"required"} and all(isinstance(name, str) for name in required)


def _has_parts(node: dict[str, Any]) -> bool:
    """Whether a schema's own keywords constrain parts of the value."""
    return any(name in _PARTS for name in node)


def _may_have_parts(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() & _MAY_HAVE_PARTS)


def _by_name(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The node's schemas by property name or pattern."""
    found = (node.get(keyword) for keyword in ("properties", "patternProperties"))
    return [named for named in found if isinstance(named, dict)]


def _schemas_below(node: dict[str, Any]) -> Iterable[Any]:
    """The schemas that apply to parts of the node's value."""
    for named in _by_name(node):
        yield from named.values()
    for name, value in node.items():
        if name in BELOW:
            yield from _listed(value)


def _objects(document: Any) -> list[dict[str, Any]]:
    """All objects of a JSON document, including data."""
    found, left = [], [document]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            found.append(node)
            left += node.values()
        elif isinstance(node, list):
            left += node
    return found
