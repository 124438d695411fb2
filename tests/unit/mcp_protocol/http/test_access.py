"""Who is let in, told by headers alone."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from mcp_protocol.http.access import AccessControl, is_loopback
from settings.server import HttpSettings

TOKENS = ("first-token", "second-token")


def headers(*pairs: tuple[str, str]) -> Headers:
    """Headers as a request has them."""
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in pairs])


def status_of(check: object, *pairs: tuple[str, str]) -> int:
    """The status that a check refuses with; 200 where it does not."""
    assert callable(check)
    try:
        check(headers(*pairs))
    except HTTPException as error:
        return error.status_code
    return 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:80", "127.0.0.1:1"])
def test_loopback_hosts_are_ours(host: str) -> None:
    assert status_of(AccessControl(HttpSettings(), True).check_host, ("Host", host)) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "::1:80"],
)
def test_name_that_was_pointed_at_this_machine_is_refused(host: str) -> None:
    assert status_of(AccessControl(HttpSettings(), True).check_host, ("Host", host)) == 403


def test_there_is_one_host_header() -> None:
    access = AccessControl(HttpSettings(), True)
    assert status_of(access.check_host) == 400
    assert status_of(access.check_host, ("Host", "localhost"), ("Host", "localhost")) == 400


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (("gpu-box",), "gpu-box:8080", 200),
        (("gpu-box:8080",), "GPU-box:8080", 200),
        (("gpu-box",), "10.0.0.5", 200),
        (("gpu-box",), "other", 403),
        ((), "other", 200),
    ],
)
def test_named_hosts_hold_beyond_loopback(allowed: tuple[str, ...], host: str, status: int) -> None:
    access = AccessControl(HttpSettings(host="10.0.0.5", tokens=TOKENS, allowed_hosts=allowed), is_loopback=False)
    assert status_of(access.check_host, ("Host", host)) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:6274", 200),
        ("https://127.0.0.1", 200),
        ("https://app.example", 200),
        ("https://app.example.evil", 403),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://[", 403),
    ],
)
def test_pages_call_only_where_allowed(origin: str | None, status: int) -> None:
    access = AccessControl(HttpSettings(allowed_origins=("https://app.example/",)), is_loopback=True)
    assert status_of(access.origin, *([("Origin", origin)] if origin is not None else [])) == status


def test_local_pages_are_strangers_beyond_loopback() -> None:
    access = AccessControl(HttpSettings(tokens=TOKENS), is_loopback=False)
    assert status_of(access.origin, ("Origin", "http://localhost:6274")) == 403


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Bearer first-token", 200),
        ("bearer second-token", 200),
        ("Bearer  second-token ", 200),
        ("Bearer first-toke", 401),
        ("Bearer first-token2", 401),
        ("Bearer FIRST-TOKEN", 401),
        ("Basic first-token", 401),
        ("first-token", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer t\xf6ken", 401),
        ("", 401),
    ],
)
def test_token_has_to_be_one_of_ours(value: str, status: int) -> None:
    assert status_of(AccessControl(HttpSettings(tokens=TOKENS), True).owner, ("Authorization", value)) == status


def test_token_is_given_once() -> None:
    access = AccessControl(HttpSettings(tokens=TOKENS), True)
    assert status_of(access.owner) == 401
    assert status_of(access.owner, *[("Authorization", f"Bearer {TOKENS[0]}")] * 2) == 401


def test_owners_differ_by_their_tokens() -> None:
    access = AccessControl(HttpSettings(tokens=TOKENS), True)
    assert [access.owner(headers(("Authorization", f"Bearer {token}"))) for token in TOKENS] == [0, 1]
    assert AccessControl(HttpSettings(), True).owner(headers()) == 0


@pytest.mark.parametrize(
    ("address", "only_us"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.1.2.3", False)],
)
def test_loopback_addresses_are_known(address: str, only_us: bool) -> None:
    assert is_loopback(address) is only_us
