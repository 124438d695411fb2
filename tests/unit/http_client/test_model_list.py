"""Lists of models in all the forms that servers use."""

from __future__ import annotations

from typing import Any

import pytest

from http_client.model_list import ServedModel, first_model, served_models

ODD: tuple[Any, ...] = (0, -1, 5.5, True, "many", [], {}, 1e300, "nan", "inf")
ROW = {"id": "m", "object": "model"}


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "list", "data": [ROW]},
        [ROW],
        ["m"],
        {"models": [{"name": "m"}]},
        {"models": ["m"]},
        {"data": {"models": [ROW]}},
        {"data": {"m": {"context": 5}}},
        {"data": {"id": "m", "size": 5}},
        {"result": [{"model_id": "m"}]},
        {"data": [ROW, None, 5, [], {}, {"id": None}, {"id": ""}, {"id": 7}, ROW], "has_more": "?"},
    ],
)
def test_names_are_found_in_any_form(answer: Any) -> None:
    assert served_models(answer) == [ServedModel("m")]


@pytest.mark.parametrize("answer", [None, 5, "m", {}, {"data": None}, {"data": [5]}, [None], {"object": "list"}])
def test_what_is_no_list_is_none(answer: Any) -> None:
    assert served_models(answer) is None


def test_empty_list_is_one() -> None:
    assert served_models({"data": []}) == served_models([]) == []


@pytest.mark.parametrize(
    ("row", "context"),
    [
        ({"max_model_len": 8}, 8),
        ({"max_model_len": "32768"}, 32768),
        ({"context_length": 8.0}, 8),
        ({"context_window": 8}, 8),
        ({"max_context_length": "8"}, 8),
        ({"max_model_len": None, "context_length": 8}, 8),
        *(({"max_model_len": odd}, None) for odd in ODD),
    ],
)
def test_context_is_a_whole_number_or_not_known(row: dict[str, Any], context: int | None) -> None:
    assert served_models([{"id": "m", **row}]) == [ServedModel("m", context_length=context)]


def test_modalities_and_owner_of_the_wrong_type_are_passed_over() -> None:
    row = {"id": "m", "owned_by": 5, "architecture": {"input_modalities": ["text", 5]}}
    assert served_models([row]) == [ServedModel("m")]
    row = {"id": "m", "owned_by": "x", "input_modalities": ["text", "image"]}
    assert served_models([row]) == [ServedModel("m", "x", None, ("text", "image"))]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"data": [{"id": "a", "root": "b"}, {"id": "c"}]}, "a"),
        ([{"id": "a"}], "a"),
        (["a", "b"], "a"),
        ({"models": [{"name": "a"}]}, "a"),
        ({"data": [None, 7, {}, {"id": 3}, {"id": ""}, {"id": "a", "root": 7}]}, "a"),
        ({"data": {"id": "a"}}, "a"),
        ({"data": {"a": {"size": 1}}}, "a"),
        ({"id": "a"}, "a"),
    ],
)
def test_first_model_is_found_in_any_form(body: Any, name: str) -> None:
    model = first_model(body)
    assert model is not None
    assert model.id == name
