"""An end to every number that a schema leaves open: a model at temperature 0 may write digits up to `max_tokens`."""

from __future__ import annotations

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
    bounds = _Bounds(crowded, taken=definitions)
    result: dict[str, Any] = bounds.put(schema)
    if bounds.is_open:
        anything = {bounds.name: bounds.around({}, {})}
        result = {**result, "$defs": {**result.get("$defs", {}), **anything}}
    return result


class _Bounds:
    """Puts the bounds into one schema.

    Arguments: the nodes that stay as they are; the names of definitions that are taken.
    Attributes: `name` of a definition of any value, and whether it is used: `is_open`.
    """

    def __init__(self, crowded: frozenset[int], taken: Iterable[str]) -> None:
        self._crowded = crowded
        self.name = "any"
        while self.name in taken:
            self.name += "_"
        self.is_open = False

    def put(self, node: Any) -> Any:
        """A copy of a schema, or of a list of them, with the bounds."""
        if isinstance(node, list):
            return [self.put(item) for item in node]
        if not isinstance(node, dict):
            return node
        changed = rebuilt(node, self.put)
        if id(node) in self._crowded or not _FIXED.isdisjoint(node):
            return changed
        return self.around(node, changed)

    def around(self, node: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
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
                changed["additionalProperties"] = self._anything()
            if isinstance(listed := changed.get("properties"), dict):
                changed["properties"] = {name: self._anything() if to is True else to for name, to in listed.items()}
        if "array" in types and node.get("items", True) is True and _OTHER_ITEMS.isdisjoint(node):
            changed["items"] = self._anything()
        return changed

    def _anything(self) -> dict[str, Any]:
        self.is_open = True
        return {"$ref": f"#/$defs/{self.name}"}


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
