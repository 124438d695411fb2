"""Which columns of which tables RESULTS.md shows as pictures too: one row a section, in the words of its tables."""

from __future__ import annotations

from benchmarks.plots import Kind, Plot

AGAINST_RAW = "against raw LLM.chat"
AGAINST_LIST = "against raw LLM.chat, the list"

PLOTS: dict[str, tuple[Plot, ...]] = {
    "startup": (
        Plot(
            Kind.BARS,
            "server",
            ("start → `initialize` ms",),
            "milliseconds from the start to the answer to initialize",
            ratio="against vllm_server.py",
            tables="same CPU",
        ),
    ),
    "round_trip": (
        Plot(
            Kind.BARS,
            "server",
            ("p50 µs",),
            "microseconds a call, median",
            ratio="p50 against vllm_server.py",
            tables="same CPU",
            logarithmic=True,
        ),
    ),
    "chat": (Plot(Kind.BARS, "way", ("latency ms",), "milliseconds for 64 tokens", ratio=AGAINST_RAW),),
    "batch": (
        Plot(Kind.BARS, "way", ("ms in all",), "milliseconds for all", ratio=AGAINST_LIST, logarithmic=True),
    ),
    "images": (Plot(Kind.BARS, "way", ("ms in all",), "milliseconds for all pictures", ratio=AGAINST_LIST),),
    "generation": (
        Plot(Kind.BARS, "way", ("s in all",), "seconds for all pictures", ratio="against bare httpx"),
    ),
    "concurrent": (
        Plot(Kind.BARS, "way", ("tokens/s",), "tokens a second", ratio="against raw, as wide"),
    ),
    "load": (Plot(Kind.BARS, "load", ("calls/s",), "calls a second"),),
    "session_turns": (
        Plot(
            Kind.LINES,
            "turn",
            ("session ms", "all again ms", "all again, nothing cached ms"),
            "milliseconds for a turn; below, over the session's",
            ratio="session ms",
            tables="each turn",
        ),
    ),
    "memory": (Plot(Kind.LINES, "after", ("resident MiB",), "resident memory, MiB"),),
    "soak": (
        Plot(Kind.LINES, "minute", ("resident MiB",), "resident memory after each round, MiB", tables="after a round"),
        Plot(
            Kind.LINES,
            "minute",
            ("descriptors", "threads", "children"),
            "held by the process after each round",
            tables="after a round",
        ),
    ),
}  # fmt: skip
