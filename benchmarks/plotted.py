"""Which columns of which tables are plotted in RESULTS.md, by section, with the column names of the tables."""

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
    "cold_start": (
        Plot(
            Kind.BARS,
            "server",
            ("call → answer s",),
            "seconds from the first call to its answer",
            ratio="against the earlier commit",
            tables="first answer",
        ),
    ),
    "chat": (Plot(Kind.BARS, "way", ("latency ms",), "milliseconds for 64 tokens", ratio=AGAINST_RAW),),
    "batch": (
        Plot(Kind.BARS, "way", ("ms in all",), "milliseconds for all", ratio=AGAINST_LIST, logarithmic=True),
    ),
    "cpu_speed": (
        Plot(
            Kind.BARS,
            "way",
            ("tokens/s, one request",),
            "tokens a second, one request",
            ratio="against the default",
            tables="speed",
        ),
    ),
    "images": (Plot(Kind.BARS, "way", ("ms in all",), "milliseconds for all images", ratio=AGAINST_LIST),),
    "generation": (
        Plot(Kind.BARS, "way", ("s in all",), "seconds for all images", ratio="against bare httpx"),
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
