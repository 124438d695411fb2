"""Servers' addresses in all the ways that people write them."""

from __future__ import annotations

import pytest

from http_client.addresses import api_of, host_of, root_of


@pytest.mark.parametrize(
    "address",
    [
        "http://h:1",
        "http://h:1/",
        "http://h:1//",
        "HTTP://h:1/v1",
        "http://h:1/v1/",
        "http://h:1/v1//",
        " http://h:1/v1/chat/completions ",
        "http://h:1/v1/models/",
        "http://h:1/v1/images/generations",
        "http://h:1/v1/videos",
        "http://h:1/chat/completions",
        "http://h:1/v1?x=1#y",
    ],
)
def test_one_server_has_one_root(address: str) -> None:
    assert root_of(address) == "http://h:1"
    assert api_of(address) == "http://h:1/v1"


@pytest.mark.parametrize(
    ("address", "root", "api"),
    [
        ("https://h/openai/v1/", "https://h/openai", "https://h/openai/v1"),
        ("https://h/api/v3/chat/completions", "https://h/api/v3", "https://h/api/v3"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai", "https://h/v1beta/openai"),
        ("https://h/models", "https://h/models", "https://h/models/v1"),
        ("http://v1.example/api", "http://v1.example/api", "http://v1.example/api/v1"),
        ("h:8000", "h:8000", "h:8000/v1"),
    ],
)
def test_what_belongs_to_an_address_stays(address: str, root: str, api: str) -> None:
    assert (root_of(address), api_of(address)) == (root, api)


def test_host_is_told_in_lower_case() -> None:
    assert host_of("https://API.Example.com.:443/v1") == "api.example.com"
    assert host_of("http://[::1]:8/") == "::1"
    assert host_of("nothing") == host_of("http://[") == ""
