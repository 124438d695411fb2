"""The numbers of the sandbox, each with its reason."""

from __future__ import annotations

import os

MEBIBYTE = 1 << 20

MAX_CHILDREN = 8
"""More pictures at a time than this, and the memory of all of them is what runs out first."""

IDLE_S = 15.0
"""A child that nobody has used for so long ends: with FFmpeg's libraries it holds 50 MB. A new one takes 0.1 s."""

START_TIMEOUT_S = 30.0
"""From the start of a child to its first word: 0.05 s on an idle machine; a busy one with a cold disk takes seconds."""

TICK_S = 0.02
"""How often waiting looks at the deadline, the cancel flag and, where the system does not bound it, the memory."""

HARD_MEMORY_BYTES = 16 << 30
"""Address space that no child goes beyond, whatever it is asked to do; libraries such as torch reserve gigabytes."""

INLINE_BYTES = 64 << 10
"""Data up to this size go through the channel, larger ones through the shared area."""

KEPT_AREA_BYTES = 16 * MEBIBYTE
"""An area is cut to this size after its use: a picture of 2 megapixels takes 8 MB, and fresh pages are slow."""

WORN_BYTES = 160 * MEBIBYTE
"""A child that keeps this much more than it had before its first call is not used again. glibc keeps up to 64 MB of
freed memory for the next time, which makes it fast, and the area takes 16."""

MAX_CALLS = 2_000
"""Then a child is replaced: libraries that leak do so slowly."""

CPU_MARGIN_S = 10
"""Processor time beyond the deadline after which the system ends a child that nobody watches any more."""


def max_children() -> int:
    """How many children work at a time: one processor stays with whoever waits for them, but a long video does not
    keep pictures waiting."""
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_CHILDREN, max(2, n_processors - 1))
