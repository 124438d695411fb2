"""Pagination of lists, with opaque cursors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from mcp_protocol.jsonrpc import INVALID_PARAMS, Json, ProtocolError

PAGE_ITEMS = 100

Item = TypeVar("Item")


def page(name: str, items: Sequence[Item], params: Json) -> Json:
    """One page of a list: its items under `name`, and `nextCursor` if there are more.

    If the list became shorter since the cursor was issued, the page is empty.

    Raises: `ProtocolError` for a cursor that was not issued for this list.
    """
    offset = _offset(name, params.get("cursor"))
    end = offset + PAGE_ITEMS
    result: Json = {name: list(items[offset:end])}
    if end < len(items):
        result["nextCursor"] = _cursor(name, end)
    return result


def _cursor(name: str, offset: int) -> str:
    return f"{name}:{offset}".encode().hex()


def _offset(name: str, cursor: Any) -> int:
    if cursor is None:
        return 0
    unknown = ProtocolError(INVALID_PARAMS, f"Invalid params: unknown cursor; omit it to list {name} from the start")
    if not isinstance(cursor, str) or len(cursor) > 100:
        raise unknown
    try:
        offset = int(bytes.fromhex(cursor).rpartition(b":")[2])
    except ValueError:
        raise unknown from None
    if offset < PAGE_ITEMS or offset % PAGE_ITEMS or cursor != _cursor(name, offset):
        raise unknown
    return offset
