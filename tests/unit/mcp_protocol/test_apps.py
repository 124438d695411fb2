"""MCP Apps in both eras: what the server declares, and what it lists for clients that declare it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.connection import Connection
from mcp_protocol.tools.toolbox import Tool, Toolbox
from mcp_protocol.versions import APPS, APPS_MIME_TYPE, META_CAPABILITIES
from tests.mcp_results import LEGACY, MODERN, Json, check_result
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import TOOLS, Host, NoArguments, modern
from tests.unit.mcp_protocol.resources.shelf import Shelf

DECLARED = {"extensions": {APPS: {"mimeTypes": [APPS_MIME_TYPE]}}}
VIEW = "ui://test/view.html"


class AppHost(Host):
    """A host whose server has a tool with a view, and one for views."""

    def _toolbox(self) -> Toolbox:
        viewed = Tool("viewed", "Viewed", "Has a view.", NoArguments, lambda *_: [], view=VIEW)
        hidden = Tool("hidden", "Hidden", "Is for views.", NoArguments, lambda *_: [], app_only=True)
        return Toolbox((*TOOLS, viewed, hidden), self.gates, str)


@pytest.fixture
def apps() -> AppHost:
    return AppHost()


def names(answer: Json) -> list[str]:
    return [tool["name"] for tool in answer["result"]["tools"]]


def initialize(host: Host, capabilities: Any, version: str = "2025-11-25") -> Json:
    params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    return host.request("initialize", params)


@pytest.mark.parametrize("version", LEGACY)
def test_legacy_client_declares_apps_once(apps: AppHost, version: str) -> None:
    initialize(apps, DECLARED, version)
    listed = apps.request("tools/list")
    assert names(listed)[-2:] == ["viewed", "hidden"]
    check_result("tools/list", version, listed)
    meta = {tool["name"]: tool.get("_meta") for tool in listed["result"]["tools"]}
    assert meta["viewed"] == {"ui": {"resourceUri": VIEW}, "ui/resourceUri": VIEW}
    assert meta["hidden"] == {"ui": {"visibility": ["app"]}}
    assert meta["echo"] is None
    initialize(apps, {}, version)
    assert names(apps.request("tools/list"))[-1] == "viewed"


def test_modern_client_declares_apps_with_each_request(apps: AppHost) -> None:
    initialize(apps, DECLARED)
    assert names(apps.request("tools/list", modern()))[-1] == "viewed"
    listed = apps.request("tools/list", modern({META_CAPABILITIES: DECLARED}))
    check_result("tools/list", MODERN, listed)
    assert names(listed)[-1] == "hidden"
    assert listed["result"]["cacheScope"] == "private"


@pytest.mark.parametrize(
    "capabilities",
    [None, 5, [], {"extensions": None}, {"extensions": []}, {"extensions": {APPS: None}}, {"extensions": {APPS: 5}}],
)
def test_odd_declarations_count_as_none(apps: AppHost, capabilities: Any) -> None:
    initialize(apps, capabilities)
    assert names(apps.request("tools/list"))[-1] == "viewed"


def test_tool_for_views_can_be_called_without_the_declaration(apps: AppHost) -> None:
    apps.call("hidden")
    assert apps.next()["result"]["content"] == []


@pytest.mark.parametrize("apps", [True, False])
def test_server_declares_apps_as_the_setting_says(make_host: MakeHost, apps: bool) -> None:
    host = make_host(apps=apps, load_resources=Shelf().resource_registry)
    declared = [
        check_result("initialize", "2025-11-25", initialize(host, {})),
        check_result("server/discover", MODERN, host.request("server/discover", modern())),
    ]
    for result in declared:
        assert result["capabilities"].get("extensions") == (DECLARED["extensions"] if apps else None)
    listed = host.request("tools/list", modern())["result"]
    assert listed["cacheScope"] == ("private" if apps else "public")


def test_connection_begins_without_apps() -> None:
    assert not Connection().has_apps
