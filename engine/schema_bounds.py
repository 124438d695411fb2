"""An end to every number that a schema leaves open: a model at temperature 0 may write digits up to `max_tokens`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from engine.schema_tree import BESIDE, REFERENCES, SchemaTree
from engine.schemas import rebuilt

MAX_MAGNITUDE = 10**18
"""The grammar backend's ranges are of 64 bits (llguidance 1.7)."""
STEP = 1e-9
"""The smallest step that the backend takes beside such a range; a number with a step has no exponent."""
_LARGEST_GIVEN = 10**15
_LEAST_WIDTH = 1e-3

_LOWS = ("minimum", "exclusiveMinimum")
_HIGHS = ("maximum", "exclusiveMaximum")
_FIXED = frozenset({"enum", "const"}) | BESIDE | REFERENCES
_OTHER_PROPERTIES = frozenset({"unevaluatedProperties", "propertyNames"})
_OTHER_ITEMS = frozenset({"additionalItems", "unevaluatedItems", "contains"})
_SAID = frozenset({"type", *_LOWS, *_HIGHS, "multipleOf"})
_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "nullable"})


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with at most 19 digits before each number's point and 9 behind it, where it does not say itself.

    An open place (a schema `{}`, an object that does not speak of its properties) means any value, the numbers in which
    get the same bounds. What another schema speaks of as well, or has steps or far bounds of its own, stays as it is.
    """
    tree = SchemaTree(schema)
    crowded = tree.crowded()
    definitions = schema.get("$defs", {})
    if crowded is None or not tree.is_plain or not isinstance(definitions, dict):
        return schema
    bounds = _Bounds(tree, crowded, taken=definitions)
    result = bounds.changed(schema)
    if bounds.definitions:
        result = {**result, "$defs": {**result.get("$defs", {}), **bounds.definitions}}
    return result


class _Bounds:
    """Puts the bounds into one schema.

    Each kind of number is written once and referred to: a grammar holds an expression for every range that is written
    out, and two hundred of them are more than it takes.

    Arguments: the schema's tree; the nodes that stay as they are; the names of definitions that are taken.
    Attributes: `definitions`, by name, of what the schema now refers to.
    """

    def __init__(self, tree: SchemaTree, crowded: frozenset[int], taken: Iterable[str]) -> None:
        self._tree = tree
        self._crowded = crowded
        # The backend does not see that the choices of a `oneOf` differ where they are references.
        self._may_refer = not any("oneOf" in node for node in tree.nodes)
        self._taken = frozenset(taken)
        self._names: dict[str, str] = {}
        self.definitions: dict[str, Any] = {}
        self._any = self._free("any")
        self._to_any = {"$ref": f"#/$defs/{self._any}"}
        self._anything: dict[str, Any] = {}
        self._anything = self._around({}, {})
        self._names[_text(self._anything)] = self._any
        self.definitions.clear()

    def put(self, node: Any) -> Any:
        """A copy of a schema, or of a list of them, with the bounds."""
        if isinstance(node, list):
            return [self.put(item) for item in node]
        return self._referred(node, self.changed(node)) if isinstance(node, dict) else node

    def changed(self, node: dict[str, Any]) -> dict[str, Any]:
        """A copy of a schema with the bounds in it and below it."""
        changed = rebuilt(node, self.put, self._tree)
        if id(node) in self._crowded or not _FIXED.isdisjoint(node):
            return changed
        return self._around(node, changed)

    def _around(self, node: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """What `changed` is of a node, with the bounds of the types that it allows."""
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
        """A reference in place of a schema that says no more than a type, and of numbers their range.

        What a person wrote beside that stays where it is, since a reference may point at it.
        """
        if not self._may_refer or changed == node or not node.keys() <= _SAID | _NOTES:
            return changed
        definition = {name: value for name, value in changed.items() if name not in _NOTES}
        text = _text(definition)
        if text not in self._names:
            self._names[text] = self._free(f"number{len(self._names)}")
        self.definitions[self._names[text]] = definition
        return {name: node[name] for name in node if name in _NOTES} | {"$ref": f"#/$defs/{self._names[text]}"}

    def _open(self) -> dict[str, Any]:
        self.definitions.setdefault(self._any, self._anything)
        return dict(self._to_any)

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        return name


def _text(definition: dict[str, Any]) -> str:
    return json.dumps(definition, sort_keys=True)


def _number_bounds(node: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """The keywords that are missing; none where those given are no plain numbers, or far out, or close together."""
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
    if not is_whole and "multipleOf" not in node and high - low >= _LEAST_WIDTH:
        missing["multipleOf"] = STEP
    return missing
