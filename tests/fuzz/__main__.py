"""The long run: `python -m tests.fuzz --messages 200000 --seed 1`."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.run import run


def main() -> int:
    """Sends the messages and prints the result; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes the server over real pipes.")
    parser.add_argument("--messages", type=int, default=200_000, help="how many at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the random numbers (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=1, help="calls that run at once (default: %(default)s)")
    options = parser.parse_args()
    report = run(options.messages, options.seed, options.at_once)
    tally = report.tally
    growth = "not measured" if tally.peak_growth_bytes is None else f"{tally.peak_growth_bytes / (1 << 20):.1f} MiB"
    print(
        f"{tally.n_messages:,} messages in {tally.n_streams:,} streams, {tally.n_due:,} answers due, "
        f"{tally.n_answered:,} came; peak memory growth {growth}; {report.took_s:.0f} s"
    )
    if report.finding is not None:
        print(report.finding)
    return int(report.finding is not None)


if __name__ == "__main__":
    sys.exit(main())
