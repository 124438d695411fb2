"""Figures in the text format of Prometheus, read back by its own library."""

from __future__ import annotations

import pytest

from mcp_protocol.calls.call import Call
from mcp_protocol.http.metrics import Metrics, Sample
from tests.unit.mcp_protocol.host import make_context

parser = pytest.importorskip("prometheus_client.parser")


def call(tool: str, took_s: float) -> Call:
    """A call that took so long."""
    ended = Call(1, tool, {}, make_context())
    ended.arrived_s -= took_s
    return ended


def figures(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All figures by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_are_counted_by_tool_and_outcome_with_their_latencies() -> None:
    metrics = Metrics()
    for took_s, outcome in ((0.05, "ok"), (2.0, "ok"), (1000.0, "cancelled")):
        metrics.call_ended(call("chat", took_s), outcome)
    found = figures(metrics.text())
    assert found["vllm_mcp_calls_total", (("outcome", "ok"), ("tool", "chat"))] == 2
    assert found["vllm_mcp_calls_total", (("outcome", "cancelled"), ("tool", "chat"))] == 1
    buckets = [found["vllm_mcp_call_seconds_bucket", (("le", le), ("tool", "chat"))] for le in ("0.025", "0.1", "2.5")]
    assert buckets == [0, 1, 2]
    assert found["vllm_mcp_call_seconds_bucket", (("le", "+Inf"), ("tool", "chat"))] == 3
    assert found["vllm_mcp_call_seconds_count", (("tool", "chat"),)] == 3
    assert found["vllm_mcp_call_seconds_sum", (("tool", "chat"),)] == pytest.approx(1002.05, abs=1)


def test_errors_requests_and_what_is_looked_up_are_shown() -> None:
    metrics = Metrics()
    metrics.error(-32601)
    metrics.request_ended("/mcp", 404)
    samples = [
        Sample("engine_state", "gauge", "Where it is.", int(state == "ready"), {"state": state})
        for state in ("ready", 'with "quotes" \\ and\nlines')
    ]
    metrics.samples = lambda: [*samples, Sample("tokens_total", "counter", "Tokens.", 123_456_789)]
    text = metrics.text()
    found = figures(text)
    assert found["vllm_mcp_errors_total", (("code", "-32601"),)] == 1
    assert found["vllm_mcp_http_requests_total", (("path", "/mcp"), ("status", "404"))] == 1
    assert found["vllm_mcp_engine_state", (("state", 'with "quotes" \\ and\nlines'),)] == 0
    assert found["vllm_mcp_tokens_total", ()] == 123_456_789
    assert text.count("# TYPE vllm_mcp_engine_state gauge") == 1
