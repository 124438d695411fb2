"""Random JSON Schemas for the fuzzer: plausible ones, hostile ones, and ones with properties named like keywords."""

from __future__ import annotations

import copy
import random
from typing import Any

Json = dict[str, Any]
KEYWORDS = (
    "default", "const", "enum", "examples", "properties", "items", "$ref", "$defs", "definitions", "allOf", "anyOf",
    "oneOf", "not", "if", "then", "type", "required", "minItems", "maxItems", "prefixItems", "contains", "pattern",
    "additionalProperties", "patternProperties", "dependentSchemas", "propertyNames", "$id", "id", "$anchor", "title",
)  # fmt: skip
NAMES = (*KEYWORDS, "a", "b", "name", "a/b", "m~n", "per%cent", "", "é漢", "x" * 60, '"quoted"', "__proto__")
WHOLES = (0, 1, 2, 3, 7, 40, 900, 10_001, 10**9, 2**53, 2**64, 10**30, -1, -5)
NUMBERS = (*WHOLES, 0.5, -2.5, 1e-12, 1e300, -1e18, 3.0)
FORMATS = ("date-time", "date", "email", "uuid", "uri", "ipv4", "nonsense")
PATTERNS = ("^[a-z]{1,4}$", "a", "^(a+)+b$", "(.*a){1,60}.{60}", "^((a{1000}){1000}){1000}$", "(?=a)b", "(", "é+")
CHAIN = "#/$defs/c0"
"""Where definitions begin that each refer twice to the next one."""
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    1.5,
    "",
    "é" * 99,
    "a" * 98 + "é" * 3,
    [],
    {},
    [{}],
    {"minItems": 10**9},
    10**400,
    "\ud800",
)
SMALL: tuple[Any, ...] = ({}, True, {"type": "string", "maxLength": 5}, {"type": "integer"}, {"enum": [1, "a"]})
RARE = (
    "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedProperties", "unevaluatedItems",
    "dependentSchemas", "minContains", "uniqueItems", "$dynamicRef", "$recursiveRef", "$id", "id", "$anchor", "$schema",
)  # fmt: skip


class SchemaSource:
    """Schemas from one seed.

    Arguments: the seed; the number of the schema. The same pair gives the same schema.
    Attributes: `oddness`, the share of places that hold a value which is no schema.
    """

    def __init__(self, seed: int, number: int) -> None:
        self._rng = random.Random(f"{seed}/{number}")
        self._left = self._rng.choice((3, 8, 20, 60))
        self.oddness = self._rng.choice((0.0, 0.0, 0.02, 0.1))
        self._places = ["#", "#/$defs/a", "#/definitions/b", "#/properties/default", "#/examples/0", "#/const/x/items"]

    def schema(self) -> Json:
        """The schema of an answer."""
        node = self._node(0)
        root: Json = node if isinstance(node, dict) else {"anyOf": [node, {"type": "string"}]}
        for keyword in ("$defs", "definitions"):
            if self._chance(0.5):
                root[keyword] = {
                    self._noted(f"#/{keyword}/", name): self._node(1) for name in self._some(("a", "b", *NAMES))
                }
        if self._chance(0.1):
            root["examples"] = [self._node(1)]
        if self._chance(0.1):
            root["const"] = {"x": {"items": self._node(1)}}
        if self._chance(0.05):
            root = {**root, **self._chain()}
        if self._chance(0.03):
            root = self._deep(root)
        return root

    def parameters(self) -> Json:
        """The parameters of a function."""
        return {"type": "object", **{name: value for name, value in self.schema().items() if name != "type"}}

    def _node(self, depth: int) -> Any:
        self._left -= 1
        if self._chance(self.oddness):
            return self._odd()
        if self._left < 0 or depth > 5 or self._chance(0.1):
            return copy.deepcopy(self._rng.choice(SMALL))
        make = self._rng.choice(
            (
                self._object,
                self._object,
                self._array,
                self._number,
                self._string,
                self._choice,
                self._joined,
                self._reference,
            )
        )
        node: Json = make(depth)
        if self._chance(0.2):
            node[self._rng.choice(("description", "title", "$comment", "default", "x-note"))] = self._rng.choice(NAMES)
        if self._chance(0.03):
            node[self._rng.choice(RARE)] = self._node(depth + 1)
        if node and self._chance(self.oddness):
            node[self._rng.choice(tuple(node))] = self._odd()
        if self._chance(self.oddness / 2):
            node[self._rng.choice(KEYWORDS)] = self._odd()
        return node

    def _object(self, depth: int) -> Json:
        names = self._some(NAMES)
        node: Json = {"type": "object"} if self._chance(0.8) else {}
        if names or self._chance(0.5):
            node["properties"] = {self._noted("#/properties/", name): self._node(depth + 1) for name in names}
        if self._chance(0.6):
            node["required"] = [name for name in names if self._chance(0.6)] + (["other"] if self._chance(0.1) else [])
        if self._chance(0.3):
            node["additionalProperties"] = self._rng.choice((True, False, self._node(depth + 1)))
        if self._chance(0.1):
            node["patternProperties"] = {self._rng.choice(PATTERNS): self._node(depth + 1)}
        if self._chance(0.1):
            node[self._rng.choice(("minProperties", "maxProperties"))] = self._rng.choice(WHOLES)
        return node

    def _array(self, depth: int) -> Json:
        node: Json = {"type": "array"}
        if self._chance(0.8):
            node["items"] = self._node(depth + 1)
        if self._chance(0.2):
            node["prefixItems"] = [self._node(depth + 1) for _ in range(self._rng.randint(1, 3))]
        for keyword in ("minItems", "maxItems"):
            if self._chance(0.4):
                node[keyword] = self._rng.choice(WHOLES)
        return node

    def _number(self, depth: int) -> Json:
        node: Json = {"type": self._rng.choice(("number", "integer", ["integer", "null"], ["number", "string"]))}
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
            if self._chance(0.2):
                node[keyword] = self._rng.choice(NUMBERS)
        return node

    def _string(self, depth: int) -> Json:
        node: Json = {"type": "string"}
        for keyword, values in (
            ("minLength", WHOLES),
            ("maxLength", WHOLES),
            ("pattern", PATTERNS),
            ("format", FORMATS),
        ):
            if self._chance(0.2):
                node[keyword] = self._rng.choice(values)
        return node

    def _choice(self, depth: int) -> Json:
        if self._chance(0.5):
            return {"enum": self._some((1, "a", None, 0.5, {"minItems": 10**9}, [1, [2]], "é")) or ["a"]}
        return {"type": list(self._some(TYPES)) or "null"}

    def _joined(self, depth: int) -> Json:
        keyword = self._rng.choice(("allOf", "anyOf", "oneOf"))
        node: Json = {keyword: [self._node(depth + 1) for _ in range(self._rng.choice((1, 1, 2, 3)))]}
        if self._chance(0.2):
            node |= self._object(depth + 1)
        return node

    def _reference(self, depth: int) -> Json:
        place = self._rng.choice(self._places)
        if self._chance(0.05):
            place = self._rng.choice(
                ("#a", "#/nowhere", "http://127.0.0.1:9/x", "#/%24defs/a", "#/$defs/a~", "x", "#//")
            )
        node: Json = {"$ref": place}
        return {"allOf": [node], "description": "wrapped"} if self._chance(0.2) else node

    def _chain(self) -> Json:
        """Definitions that each refer to the next one more than once."""
        n, keyword = self._rng.choice((5, 20, 60)), self._rng.choice(("allOf", "anyOf", "prefixItems"))
        links: Json = {f"c{i}": {keyword: [{"$ref": f"#/$defs/c{i + 1}"}] * 2} for i in range(n)}
        links[f"c{n}"] = {"type": "array", "minItems": 20, "items": {"type": "integer"}}
        return {"$defs": links, "$ref": CHAIN}

    def _deep(self, node: Any) -> Json:
        for _ in range(self._rng.choice((30, 70, 200))):
            node = self._rng.choice(({"items": node}, {"anyOf": [node]}, {"properties": {"default": node}}))
        deep: Json = node
        return deep

    def _odd(self) -> Any:
        return copy.deepcopy(self._rng.choice(ODD))

    def _noted(self, place: str, name: str) -> str:
        """The name, which later references may point at."""
        self._places.append(place + name.replace("~", "~0").replace("/", "~1").replace("%", "%25"))
        return name

    def _some(self, of: tuple[Any, ...]) -> list[Any]:
        return self._rng.sample(of, min(len(of), self._rng.choice((0, 1, 1, 2, 3))))

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share
