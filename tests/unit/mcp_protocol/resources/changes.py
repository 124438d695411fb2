"""Changes of resources, and streams of them."""

from __future__ import annotations

from typing import Any

from tests.mcp_results import MODERN, Json, check_notification
from tests.unit.mcp_protocol.host import Host, modern
from tests.unit.mcp_protocol.resources.shelf import Shelf


def change(host: Host, shelf: Shelf, **texts: str) -> list[Json]:
    """Changes texts while a call runs, as a handler would; returns what else the server said until the next call."""
    host.wait_until_idle()  # the worker looks for changes after each item, also after the answer is out
    shelf.texts |= texts
    host.call("echo", {"text": "changed"}, "changing")
    host.call("echo", {"text": "then"}, "then")
    said = []
    while (message := host.next()).get("id") != "then":
        said.append(message)
    assert said.pop(0)["id"] == "changing"
    return said


def listen(host: Host, request_id: Any = "listen:0", **wanted: Any) -> Json:
    """Opens a stream; returns the filter that the server honours."""
    host.send("subscriptions/listen", modern(notifications=wanted), request_id)
    params = check_notification("notifications/subscriptions/acknowledged", MODERN, host.next())
    assert params["_meta"] == {"io.modelcontextprotocol/subscriptionId": request_id}
    honoured: Json = params["notifications"]
    return honoured
