"""Pages of a long list: as many items as the caller requests and one result can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from mcp_protocol.jsonrpc import encode

RESERVED_BYTES = 4_000
"""For the other fields of a result."""

Item = TypeVar("Item")
Entry = TypeVar("Entry", bound=msgspec.Struct)


def page_of(
    items: Sequence[Item],
    offset: int,
    limit: int,
    entry_of: Callable[[Item], Entry],
    max_bytes: int,
    shorten: Callable[[Entry], Entry | None] = lambda entry: None,
) -> tuple[list[Entry], int | None]:
    """Returns the entries of a page and the offset of the next page (`None` after the last one).

    Arguments:
        items: all items.
        offset: index of the page's first item.
        limit: maximum number of items in the page.
        entry_of: turns an item into the entry of a result.
        max_bytes: maximum size of a result.
        shorten: makes an entry smaller that is too large on its own, or returns `None` if it cannot.
    """
    left_bytes = max_bytes - RESERVED_BYTES
    page: list[Entry] = []
    for item in items[offset : offset + limit]:
        entry = entry_of(item)
        n_bytes = _bytes_in_result(entry)
        while not page and n_bytes > left_bytes and (shorter := shorten(entry)) is not None:
            entry = shorter
            n_bytes = _bytes_in_result(entry)
        if page and n_bytes > left_bytes:
            break
        left_bytes -= n_bytes
        page.append(entry)
    end = offset + len(page)
    return page, end if end < len(items) else None


def _bytes_in_result(entry: Any) -> int:
    """An entry is in a result twice: in the structured content, and in the JSON of the text block."""
    line = encode(entry)
    return len(line) + len(encode(line.decode()))
