from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.jsonrpc import INVALID_PARAMS, ProtocolError
from mcp_protocol.versions import (
    META_CAPABILITIES,
    META_VERSION,
    SUPPORTED,
    UNSUPPORTED_VERSION,
    Cache,
    Revision,
    finished,
    meta_of,
    revision_of,
    settle,
)
from tests.mcp_results import LEGACY, MODERN, REVISIONS, envelope

SETTLED = "2025-03-26"


@pytest.mark.parametrize(
    ("meta", "revision"),
    [
        pytest.param({}, SETTLED, id="no envelope: what initialize settled"),
        pytest.param({"progressToken": 0}, SETTLED, id="a token alone is no envelope"),
        pytest.param({"io.modelcontextprotocol/logLevel": "debug"}, SETTLED, id="a level alone is no envelope"),
        pytest.param(None, SETTLED, id="null"),
        pytest.param([1], SETTLED, id="a list"),
        pytest.param("junk", SETTLED, id="a string"),
        pytest.param(envelope(), MODERN, id="whole envelope"),
        pytest.param({META_VERSION: MODERN, META_CAPABILITIES: {}}, MODERN, id="clientInfo is optional"),
    ],
)
def test_era_is_decided_by_the_requests_envelope(meta: Any, revision: str) -> None:
    assert revision_of({"_meta": meta}, SETTLED) == Revision(revision)


def test_params_without_meta_are_legacy() -> None:
    assert revision_of({}, "2024-11-05") == Revision("2024-11-05")


@pytest.mark.parametrize(
    ("meta", "missing"),
    [
        pytest.param({META_VERSION: MODERN}, META_CAPABILITIES, id="no capabilities"),
        pytest.param({META_VERSION: MODERN, META_CAPABILITIES: None}, META_CAPABILITIES, id="capabilities null"),
        pytest.param({META_VERSION: MODERN, META_CAPABILITIES: []}, META_CAPABILITIES, id="capabilities a list"),
        pytest.param({META_CAPABILITIES: {}}, META_VERSION, id="no version"),
    ],
)
def test_half_an_envelope_is_refused_by_the_name_of_what_it_lacks(meta: Any, missing: str) -> None:
    with pytest.raises(ProtocolError, match=missing) as error:
        revision_of({"_meta": meta}, SETTLED)
    assert error.value.code == INVALID_PARAMS


@pytest.mark.parametrize("version", ["2027-06-30", "2025-11-25", "", None, 7, ["2026-07-28"], {}])
def test_modern_request_in_an_unknown_version_is_told_which_there_are(version: Any) -> None:
    with pytest.raises(ProtocolError) as error:
        revision_of({"_meta": {META_VERSION: version, META_CAPABILITIES: {}}}, SETTLED)
    assert error.value.code == UNSUPPORTED_VERSION == -32022
    assert error.value.data == {"supported": list(SUPPORTED), "requested": version}
    assert sorted(SUPPORTED) == sorted(REVISIONS)


@pytest.mark.parametrize("version", LEGACY)
def test_known_legacy_version_is_settled_as_asked(version: str) -> None:
    assert settle(version) == version


@pytest.mark.parametrize("version", [MODERN, "2024-10-07", "2999-01-01", "", None, 5, [LEGACY[0]], {}])
def test_any_other_version_settles_on_the_newest_legacy_one(version: Any) -> None:
    assert settle(version) == "2025-11-25"


@pytest.mark.parametrize(
    ("name", "modern", "resource_links", "progress_messages"),
    [
        ("2024-11-05", False, False, False),
        ("2025-03-26", False, False, True),
        ("2025-06-18", False, True, True),
        ("2025-11-25", False, True, True),
        ("2026-07-28", True, True, True),
    ],
)
def test_what_each_revision_may_be_sent(name: str, modern: bool, resource_links: bool, progress_messages: bool) -> None:
    revision = Revision(name)
    assert (revision.modern, revision.resource_links, revision.progress_messages) == (
        modern,
        resource_links,
        progress_messages,
    )


def test_legacy_result_is_left_as_it_is() -> None:
    assert finished({"tools": []}, Revision("2025-11-25"), {"name": "s"}, cache=Cache(5)) == {"tools": []}


def test_modern_result_is_complete_with_server_and_caching() -> None:
    answer = finished({"_meta": {"mine": 1}, "tools": []}, Revision(MODERN), {"name": "s"}, cache=Cache(5))
    assert answer == {
        "resultType": "complete",
        "tools": [],
        "ttlMs": 5,
        "cacheScope": "public",
        "_meta": {"mine": 1, "io.modelcontextprotocol/serverInfo": {"name": "s"}},
    }
    assert "ttlMs" not in finished({}, Revision(MODERN), {"name": "s"})


@pytest.mark.parametrize(("params", "meta"), [({}, {}), ({"_meta": 5}, {}), ({"_meta": {"a": 1}}, {"a": 1})])
def test_meta_that_is_no_object_counts_as_none(params: Any, meta: Any) -> None:
    assert meta_of(params) == meta
