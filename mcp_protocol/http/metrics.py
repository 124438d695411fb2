"""Metrics in Prometheus' text format."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from mcp_protocol.calls.call import Call

PREFIX = "vllm_mcp_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the latency histogram."""


class Sample(msgspec.Struct, frozen=True):
    """A value of a metric that is not counted here."""

    name: str
    kind: str
    meaning: str
    value: float
    labels: Mapping[str, str] = {}


class Metrics:
    """Counters of calls and requests; any thread may call any method."""

    def __init__(self) -> None:
        self.samples: Callable[[], Iterable[Sample]] = lambda: ()
        """Values that are read when the metrics are requested."""
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[int] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def call_ended(self, call: Call, outcome: str) -> None:
        """Counts a call and its duration since its arrival."""
        seconds = time.monotonic() - call.arrived_s
        with self._lock:
            self._calls[call.tool, outcome] += 1
            counts = self._latencies.setdefault(call.tool, [0] * (len(BUCKETS_S) + 1))
            counts[bisect.bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds[call.tool] = self._seconds.get(call.tool, 0.0) + seconds

    def error(self, code: int) -> None:
        """Counts a JSON-RPC error."""
        with self._lock:
            self._errors[code] += 1

    def request_ended(self, path: str, status: int) -> None:
        """Counts an HTTP request."""
        with self._lock:
            self._requests[path, status] += 1

    def text(self) -> str:
        """All metrics as text."""
        with self._lock:
            calls, errors, requests = dict(self._calls), dict(self._errors), dict(self._requests)
            latencies = {tool: (list(counts), self._seconds[tool]) for tool, counts in self._latencies.items()}
        lines = [*_head("calls_total", "counter", "Calls that have ended, by tool and outcome.")]
        lines += [_line("calls_total", n, tool=tool, outcome=how) for (tool, how), n in sorted(calls.items())]
        lines += _head("errors_total", "counter", "JSON-RPC errors, by code.")
        lines += [_line("errors_total", n, code=str(code)) for code, n in sorted(errors.items())]
        lines += _head("http_requests_total", "counter", "HTTP requests, by path and status.")
        lines += [
            _line("http_requests_total", n, path=path, status=str(status))
            for (path, status), n in sorted(requests.items())
        ]
        lines += _head("call_seconds", "histogram", "Seconds from a call's arrival to its end, by tool.")
        for tool, (counts, seconds) in sorted(latencies.items()):
            lines += _histogram("call_seconds", counts, seconds, tool)
        named: set[str] = set()
        for sample in self.samples():
            if sample.name not in named:
                lines += _head(sample.name, sample.kind, sample.meaning)
                named.add(sample.name)
            lines.append(_line(sample.name, sample.value, **sample.labels))
        return "\n".join(lines) + "\n"


def _histogram(name: str, counts: list[int], seconds: float, tool: str) -> Iterable[str]:
    n_so_far = 0
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
        n_so_far += count
        yield _line(f"{name}_bucket", n_so_far, tool=tool, le=bound)
    yield _line(f"{name}_sum", seconds, tool=tool)
    yield _line(f"{name}_count", n_so_far, tool=tool)


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"


def _line(name: str, value: float, **labels: str) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{PREFIX}{name}{{{shown}}} {value}" if shown else f"{PREFIX}{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
