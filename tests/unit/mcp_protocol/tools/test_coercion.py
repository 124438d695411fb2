from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from mcp_protocol.tools.coercion import HOST_ARGUMENTS, arguments_of, number_of
from mcp_protocol.tools.toolbox import ArgumentError, validated
from sandbox.budget import ByteBudget, OverBudget


class Circle(msgspec.Struct, tag="circle", tag_field="kind", forbid_unknown_fields=True):
    """A round thing."""

    radius: int
    label: str = "round"


class Square(msgspec.Struct, tag="square", tag_field="kind", forbid_unknown_fields=True):
    """A thing with corners."""

    side: float


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """An argument of each type."""

    count: int = 1
    share: float = 0.5
    seed: int | None = None
    quick: bool = False
    mode: Literal["auto", "none"] | Square = "auto"
    note: str | None = None
    notes: str | list[str] = ""
    names: list[str] = []
    pair: tuple[int, ...] = ()
    shapes: Annotated[list[Circle | Square], Meta(max_length=3)] = []
    square: Square | None = None
    plain: dict[str, Any] = {}
    counts: dict[str, int] = {}
    either: int | bool | None = None


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        # Numbers
        ("count", 3.0, 3),
        ("count", "3", 3),
        ("count", " 3 ", 3),
        ("count", "3.0", 3),
        ("count", "1e3", 1000),
        ("count", -0.0, 0),
        ("seed", "7", 7),
        ("seed", 2.0**53, 2**53),
        ("share", "0.25", 0.25),
        ("share", "1", 1.0),
        ("share", "-1e-3", -0.001),
        # Booleans and null
        ("quick", "true", True),
        ("quick", "False", False),
        ("either", "true", True),
        ("either", "4", 4),
        ("seed", "null", None),
        ("seed", None, None),
        ("count", None, 1),
        ("count", "null", 1),
        ("share", None, 0.5),
        ("quick", None, False),
        ("mode", None, "auto"),
        ("notes", None, ""),
        ("names", None, []),
        ("shapes", None, []),
        ("plain", None, {}),
        # Arrays and objects
        ("names", '["a", "b"]', ["a", "b"]),
        ("names", "[]", []),
        ("names", r'["\ud83d"]', ["\ufffd"]),
        ("names", json.dumps(json.dumps(["a"])), ["a"]),
        ("plain", json.dumps(json.dumps({"a": "1"})), {"a": "1"}),
        ("pair", '[1, 2.0, "3"]', (1, 2, 3)),
        ("plain", '{"a": "1"}', {"a": "1"}),
        ("counts", '{"a": "1", "b": 2.0}', {"a": 1, "b": 2}),
        ("square", '{"kind": "square", "side": "2"}', Square(2.0)),
        ("mode", '{"kind": "square", "side": 2}', Square(2.0)),
        ("shapes", '[{"kind": "circle", "radius": 2.0, "label": null}]', [Circle(2)]),
        ("shapes", ['{"kind": "circle", "radius": "2"}', {"kind": "square", "side": "0.5"}], [Circle(2), Square(0.5)]),
        ("shapes", json.dumps([json.dumps({"kind": "circle", "radius": "2", "label": "7"})]), [Circle(2, "7")]),
    ],
)
def test_what_can_mean_one_thing_only_is_taken(name: str, given: Any, taken: Any) -> None:
    value = getattr(validated({name: given}, Order), name)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("note", "null"),
        ("note", "5"),
        ("note", "[1]"),
        ("note", '{"a": 1}'),
        ("notes", '["a"]'),
        ("notes", "true"),
        ("mode", "none"),
    ],
)
def test_text_stays_text_where_text_is_admitted(name: str, text: str) -> None:
    # The other argument takes the call through the coercion.
    order = validated({name: text, "count": "2"}, Order)
    assert getattr(order, name) == text
    assert order.count == 2


def test_text_within_objects_of_any_shape_stays_text() -> None:
    plain = {"a": "1", "b": "[1]", "c": None, "d": 2.0}
    assert validated({"plain": plain, "count": "2"}, Order).plain == plain


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("count", "three", "expected int, got str"),
        ("count", "", "expected int, got str"),
        ("count", "3.5", "expected int, got str"),
        ("count", 3.5, "expected int, got float"),
        ("count", "true", "expected int, got str"),
        ("count", True, "expected int, got bool"),
        ("count", 1e300, "expected int, got float"),
        ("count", "0x10", "expected int, got str"),
        ("count", "1" + " " * 100, "expected int, got str"),
        ("share", "NaN", "expected float, got str"),
        ("share", "Infinity", "expected float, got str"),
        ("share", False, "expected float, got bool"),
        ("quick", "1", "expected bool, got str"),
        ("quick", "yes", "expected bool, got str"),
        ("quick", 1, "expected bool, got int"),
        ("names", "a, b", "expected array, got str"),
        ("names", "['a']", "expected array, got str"),
        ("names", '{"a": 1}', "expected array, got str"),
        ("names", '"a"', "expected array, got str"),
        ("names", [None], "expected str, got null"),
        ("mode", "automatic", "invalid enum value 'automatic'; known: "),
        ("plain", "[1]", "expected object, got str"),
        ("square", '{"kind": "square"}', "object missing required field side"),
        ("shapes", '[{"kind": "circle", "radius": "x"}]', "expected int, got str"),
        ("shapes", '[{"kind": "cube"}]', "invalid value 'cube'; known: circle, square"),
        ("shapes", '[{"kind": ["circle"]}]', "expected str"),
        ("shapes", '[{"kind": "square", "side": null}]', "expected float, got null"),
        ("note", 5, "expected str | null, got int"),
    ],
)
def test_everything_else_is_refused_as_before(name: str, given: Any, words: str) -> None:
    with pytest.raises(ArgumentError) as error:
        validated({name: given}, Order)
    assert str(error.value).startswith(f"arguments.{name}")
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["\ud800", "[\ud800", "\ud800]"])
@pytest.mark.parametrize("name", ["count", "quick", "names", "square", "plain"])
def test_half_a_surrogate_pair_where_no_text_is_due_is_refused(name: str, text: str) -> None:
    with pytest.raises(ArgumentError, match="arguments"):
        validated({name: text}, Order)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"kind":' * 50_000])
def test_endless_nesting_in_a_text_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="arguments"):
        validated({"shapes": text}, Order)


def test_arguments_of_the_caller_stay_as_they_were() -> None:
    arguments = {"count": "2", "shapes": [{"kind": "circle", "radius": 2.0, "label": None}]}
    before = json.dumps(arguments)
    validated(arguments, Order)
    assert json.dumps(arguments) == before


@pytest.mark.parametrize("name", sorted(HOST_ARGUMENTS))
def test_what_hosts_add_is_dropped_unread(name: str) -> None:
    assert validated({"count": 2, name: {"secret": 1}}, Order) == Order(2)


def test_an_argument_that_a_host_adds_too_is_taken_where_the_tool_has_it() -> None:
    class WithAction(msgspec.Struct, forbid_unknown_fields=True):
        action: str

    assert validated({"action": "go", "toolCallId": "1"}, WithAction) == WithAction("go")


def test_other_unknown_arguments_stay_an_error_also_beside_those() -> None:
    with pytest.raises(ArgumentError, match=r"arguments\.tool: there is no such argument"):
        validated({"toolCallId": "1", "tool": "x"}, Order)


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3), (0.5, 0.5), ("2.5", 2.5), (True, None), ("x", None), (None, None), ("9" * 65, None)]
)
def test_number_is_read_from_text_too(value: Any, number: float | None) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize(
    ("value", "read"),
    [(' {"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("[1]", "[1]"), ("{", "{"), (None, None), (" ", {}), ("null", {})],
)
def test_all_arguments_may_be_one_text(value: Any, read: Any) -> None:
    assert arguments_of(value) == read


def test_long_text_of_arguments_stays_bytes_until_its_turn() -> None:
    text = json.dumps({"a": "x" * 10_000})
    raw = arguments_of(text)
    assert isinstance(raw, msgspec.Raw)
    assert bytes(raw) == text.encode()


def test_objects_made_of_a_text_count_in_the_budget() -> None:
    held: list[int] = []
    text = json.dumps([{"kind": "circle", "radius": 1}] * 3)
    validated({"shapes": text}, Order, held.append)
    assert sum(held) > 3 * len(text)
    with pytest.raises(OverBudget):
        validated({"shapes": text}, Order, ByteBudget(10).hold().add)
    held.clear()
    validated({"count": "3", "note": text}, Order, held.append)
    assert held == []
