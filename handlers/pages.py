"""Pages of a long list: as many items as were asked for and as one result can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from mcp_protocol.jsonrpc import encode

RESERVED_BYTES = 4_000
"""What a result has beside the items of its page."""

Item = TypeVar("Item")
Shown = TypeVar("Shown", bound=msgspec.Struct)


def page_of(
    items: Sequence[Item],
    offset: int,
    limit: int,
    show: Callable[[Item], Shown],
    max_bytes: int,
    shorten: Callable[[Shown], Shown | None] = lambda shown: None,
) -> tuple[list[Shown], int | None]:
    """The page's items as they are shown, and where the next page begins (`None` after the last one).

    Arguments: all items; where the page begins, and how many it may have; how one is shown; the longest result in
    bytes; `shorten`, which makes an item smaller that alone is too large, or returns `None` when it cannot.
    """
    left_bytes = max_bytes - RESERVED_BYTES
    page: list[Shown] = []
    for item in items[offset : offset + limit]:
        shown = show(item)
        n_bytes = _bytes_in_result(shown)
        while not page and n_bytes > left_bytes and (shorter := shorten(shown)) is not None:
            shown = shorter
            n_bytes = _bytes_in_result(shown)
        if page and n_bytes > left_bytes:
            break
        left_bytes -= n_bytes
        page.append(shown)
    end = offset + len(page)
    return page, end if end < len(items) else None


def _bytes_in_result(shown: Any) -> int:
    """An item is in a result twice: in its structured content, and in the JSON of its text block."""
    line = encode(shown)
    return len(line) + len(encode(line.decode()))
