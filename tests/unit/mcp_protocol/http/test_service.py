"""Where the service may listen."""

from __future__ import annotations

import pytest

from mcp_protocol.http.service import CannotListen, listen
from settings.server import HttpSettings
from tests.unit.mcp_protocol.http.web import Web


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_listening_beyond_this_machine_without_a_token(host: str) -> None:
    with pytest.raises(CannotListen, match="VLLM_HTTP_TOKENS"):
        listen(HttpSettings(host=host, port=0))
    listen(HttpSettings(host="0.0.0.0", port=0, tokens=("token",))).close()


def test_address_that_cannot_be_had_is_named(web: Web) -> None:
    with pytest.raises(CannotListen, match=f"127.0.0.1:{web.service.address[1]}"):
        listen(HttpSettings(port=web.service.address[1]))
    for host in ("no.such.host.invalid", "", "256.1.1.1"):
        with pytest.raises(CannotListen):
            listen(HttpSettings(host=host, port=0))
