"""Pages of lists and their cursors."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.pages import PAGE_ITEMS
from tests.mcp_results import MODERN, Json
from tests.unit.mcp_protocol.host import Host, error_of
from tests.unit.mcp_protocol.resources.requests import result
from tests.unit.mcp_protocol.resources.shelf import Shelf


@pytest.mark.parametrize("n_texts", [0, 1, PAGE_ITEMS - 1, PAGE_ITEMS, PAGE_ITEMS + 1, 3 * PAGE_ITEMS])
def test_pages_make_up_the_list(host: Host, shelf: Shelf, n_texts: int) -> None:
    shelf.texts = {str(number): "" for number in range(n_texts)}
    seen: list[str] = []
    params: Json = {}
    while True:
        listed = result(host, MODERN, "resources/list", params)
        assert 1 <= len(listed["resources"]) <= PAGE_ITEMS
        seen += [resource["name"] for resource in listed["resources"]]
        if "nextCursor" not in listed:
            break
        params = {"cursor": listed["nextCursor"]}
    assert seen == ["note", *shelf.texts]


def test_list_that_got_shorter_ends_early(host: Host, shelf: Shelf) -> None:
    shelf.texts = {str(number): "" for number in range(250)}
    cursor = host.request("resources/list")["result"]["nextCursor"]
    shelf.texts.clear()
    listed = result(host, "2025-11-25", "resources/list", {"cursor": cursor})
    assert listed["resources"] == []
    assert "nextCursor" not in listed


@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "prompts/list", "tools/list"])
@pytest.mark.parametrize(
    "cursor", ["", "2", "zz", "0", 5, -1, True, [], {}, "é", "0" * 100_000, "\x00", "7265736f75726365733a2d3130"]
)
def test_cursor_that_was_never_given_is_an_error(host: Host, method: str, cursor: Any) -> None:
    code, message = error_of(host.request(method, {"cursor": cursor}))
    assert code == -32602
    assert "unknown cursor" in message


def test_cursor_belongs_to_its_list(host: Host, shelf: Shelf) -> None:
    shelf.texts = {str(number): "" for number in range(250)}
    cursor = host.request("resources/list")["result"]["nextCursor"]
    assert error_of(host.request("prompts/list", {"cursor": cursor}))[0] == -32602
    assert error_of(host.request("resources/list", {"cursor": cursor.upper() + "00"}))[0] == -32602
