"""A short run of the fuzzer; `python -m tests.fuzz` is the long one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess
from tests.fuzz.campaign import Campaign
from tests.fuzz.messages import APPS, FRESH, Stream, encoded, envelope
from tests.fuzz.run import run

MESSAGES = 2_400


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    """One process for streams that are written here."""
    with Campaign() as playing:
        yield playing
        playing.end()


@pytest.mark.parametrize("n_at_once", [1, 4])
def test_every_message_gets_what_the_protocol_owes_it(n_at_once: int, tmp_path: Path) -> None:
    """One call after another with sessions in memory; four at once with sessions in a file."""
    environment = {"VLLM_SESSION_DB": str(tmp_path / "sessions.db")} if n_at_once > 1 else {}
    report = run(MESSAGES, seed=n_at_once, n_at_once=n_at_once, environment=environment)
    assert report.finding is None, f"\n{report.finding}"
    assert report.tally.n_messages >= MESSAGES
    assert report.tally.peak_growth_bytes is not None
    assert report.tally.peak_growth_bytes < 64 << 20


def test_stream_may_be_split_at_every_byte(campaign: Campaign) -> None:
    lines = (
        encoded({"jsonrpc": "2.0", "id": "#1", "method": "ping"}),
        encoded(
            {"jsonrpc": "2.0", "id": "s#2é\u2028😀", "method": "tools/call", "params": {"name": "model_info"}}, False
        ),
        b"\xef\xbb\xbf" + encoded({"id": 3, "method": "server/discover", "params": {"_meta": envelope()}}),
        encoded({"jsonrpc": "2.0", "method": "notifications/initialized"})[:-1] + b"\r\n",
        b"\n{\n",
        encoded({"jsonrpc": "2.0", "id": "", "method": "no/such"}),
    )
    n_bytes = len(b"".join(lines))
    for place in range(1, n_bytes):
        campaign.play(Stream("2025-11-25", lines, ((place + 0.5) / n_bytes,)))


def test_streams_of_both_eras_may_be_interleaved(campaign: Campaign) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": f"#{number}", "method": "tools/call", "params": {"name": name, **meta}}
        for number, (name, meta) in enumerate(
            (name, meta)
            for name in ("model_info", "list_sessions")
            for meta in ({}, {"_meta": envelope()})
            for _ in range(4)
        )
    ]
    campaign.play(Stream("2025-03-26", tuple(map(encoded, requests)), "bytes"))
    campaign.play(Stream("2025-03-26", (encoded(requests), encoded([{"method": "ping"}, [], 5])), ()))


def test_input_may_end_at_any_time(campaign: Campaign) -> None:
    calls = (
        encoded({"id": f"#{number}", "method": "tools/call", "params": {"name": "model_info"}}) for number in range(9)
    )
    listen = {"id": "#9", "method": "subscriptions/listen", "params": {"_meta": envelope(), "notifications": {}}}
    campaign.play(Stream(FRESH, (*calls, encoded(listen)), ()))


def test_the_scripted_server_is_a_real_one_but_for_its_engine(campaign: Campaign) -> None:
    """What the fuzzer runs shows the same tools as `vllm_server.py`."""
    with ServerProcess() as server:
        listed = server.request("tools/list", {"_meta": envelope(APPS)})
        assert listed["result"]["tools"] == campaign.tools
