"""Bounds numbers that a schema leaves open: at temperature 0, a model may write digits up to `max_tokens`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from engine.schemas.checks import rebuilt
from engine.schemas.tree import IN_PLACE, REFERENCES, SchemaTree

MAX_MAGNITUDE = 10**18
"""The grammar backend's ranges have 64 bits (llguidance 1.7)."""
STEP = 1e-9
"""The smallest `multipleOf` that the backend accepts with such a range; it also excludes exponents."""
_LARGEST_GIVEN = 10**15
_MIN_WIDTH = 1e-3

_LOWS = ("minimum", "exclusiveMinimum")
_HIGHS = ("maximum", "exclusiveMaximum")
_FIXED = frozenset({"enum", "const"}) | IN_PLACE | REFERENCES
_OTHER_PROPERTIES = frozenset({"unevaluatedProperties", "propertyNames"})
_OTHER_ITEMS = frozenset({"additionalItems", "unevaluatedItems", "contains"})
_CONSTRAINTS = frozenset({"type", *_LOWS, *_HIGHS, "multipleOf"})
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "nullable"}
)


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with at most 19 digits before and 9 after the decimal point of each number that it does not bound.

    An open schema (`{}`, or an object without `additionalProperties`) allows any value; numbers in it get the same
    bounds. Values that several schemas constrain, and numbers with `multipleOf` or distant bounds, are not changed.
    """
    tree = SchemaTree(schema)
    shared = tree.shared()
    definitions = schema.get("$defs", {})
    if shared is None or not tree.is_exact or not isinstance(definitions, dict):
        return schema
    bounds = _Bounds(tree, shared, used_names=definitions)
    result = bounds.changed(schema)
    if bounds.definitions:
        result = {**result, "$defs": {**result.get("$defs", {}), **bounds.definitions}}
    return result


class _Bounds:
    """Adds bounds to one schema.

    Equal number schemas become references to one definition: a grammar has an expression for every range that is
    written out, and two hundred of them exceed its limits.

    Arguments:
        tree: the schema's tree.
        shared: ids of nodes that must not be changed; see `SchemaTree.shared`.
        used_names: names of the schema's own definitions.

    Attributes:
        definitions: the added definitions by name.
    """

    def __init__(self, tree: SchemaTree, shared: frozenset[int], used_names: Iterable[str]) -> None:
        self._tree = tree
        self._shared = shared
        # The backend cannot tell that the alternatives of a `oneOf` exclude each other when they are references.
        self._may_refer = not any("oneOf" in node for node in tree.nodes)
        self._used_names = frozenset(used_names)
        self._names: dict[str, str] = {}
        self.definitions: dict[str, Any] = {}
        self._any = self._free("any")
        self._to_any = {"$ref": f"#/$defs/{self._any}"}
        self._anything: dict[str, Any] = {}
        self._anything = self._around({}, {})
        self._names[_text(self._anything)] = self._any
        self.definitions.clear()

    def put(self, node: Any) -> Any:
        """A copy of a schema, or of a list of schemas, with bounds."""
        if isinstance(node, list):
            return [self.put(item) for item in node]
        return self._referred(node, self.changed(node)) if isinstance(node, dict) else node

    def changed(self, node: dict[str, Any]) -> dict[str, Any]:
        """A copy of a schema with bounds in it and below it."""
        changed = rebuilt(node, self.put, self._tree)
        if id(node) in self._shared or not _FIXED.isdisjoint(node):
            return changed
        return self._around(node, changed)

    def _around(self, node: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """Adds to `changed`, the copy of a node, the bounds for the types that it allows."""
        types = node.get("type", ("object", "array", "number"))
        types = [types] if isinstance(types, str) else types
        if not isinstance(types, list | tuple):
            return changed
        if "number" in types:
            changed |= _number_bounds(node, is_whole=False)
        elif "integer" in types:
            changed |= _number_bounds(node, is_whole=True)
        if "object" in types:
            if node.get("additionalProperties", True) is True and _OTHER_PROPERTIES.isdisjoint(node):
                changed["additionalProperties"] = self._open()
            if isinstance(listed := changed.get("properties"), dict):
                changed["properties"] = {name: self._open() if to is True else to for name, to in listed.items()}
        if "array" in types and node.get("items", True) is True and _OTHER_ITEMS.isdisjoint(node):
            changed["items"] = self._open()
        return changed

    def _referred(self, node: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """Replaces a schema that has only a type and a range by a reference; annotations are kept."""
        if not self._may_refer or changed == node or not node.keys() <= _CONSTRAINTS | _ANNOTATIONS:
            return changed
        definition = {name: value for name, value in changed.items() if name not in _ANNOTATIONS}
        text = _text(definition)
        if text not in self._names:
            self._names[text] = self._free(f"number{len(self._names)}")
        self.definitions[self._names[text]] = definition
        return {name: node[name] for name in node if name in _ANNOTATIONS} | {"$ref": f"#/$defs/{self._names[text]}"}

    def _open(self) -> dict[str, Any]:
        self.definitions.setdefault(self._any, self._anything)
        return dict(self._to_any)

    def _free(self, name: str) -> str:
        while name in self._used_names:
            name += "_"
        return name


def _text(definition: dict[str, Any]) -> str:
    return json.dumps(definition, sort_keys=True)


def _number_bounds(node: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """The missing keywords; none if the given ones are not numbers, very large, or close together."""
    given = [node[name] for name in (*_LOWS, *_HIGHS, "multipleOf") if name in node]
    if not all(type(number) in (int, float) and abs(number) <= _LARGEST_GIVEN for number in given):
        return {}
    low = max((node[name] for name in _LOWS if name in node), default=-MAX_MAGNITUDE)
    high = min((node[name] for name in _HIGHS if name in node), default=MAX_MAGNITUDE)
    missing: dict[str, Any] = {}
    if low == -MAX_MAGNITUDE:
        missing["minimum"] = low
    if high == MAX_MAGNITUDE:
        missing["maximum"] = high
    if not is_whole and "multipleOf" not in node and high - low >= _MIN_WIDTH:
        missing["multipleOf"] = STEP
    return missing
