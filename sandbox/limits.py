"""The limits of the sandbox."""

from __future__ import annotations

from operating_system.machine import n_processors

MEBIBYTE = 1 << 20

MAX_CHILDREN = 8
"""With more images at a time, their memory runs out first."""

IDLE_S = 15.0
"""An idle child ends after this time: with FFmpeg's libraries it holds 50 MB. Starting a new one takes 0.1 s."""

START_TIMEOUT_S = 30.0
"""Longest start of a child: 0.05 s on an idle machine, seconds on a busy one with a cold disk."""

TICK_S = 0.02
"""How often the parent measures a child's memory, where the system does not bound it."""

HARD_MEMORY_BYTES = 16 << 30
"""Hard limit of the address space of a child; libraries such as torch reserve gigabytes."""

INLINE_BYTES = 64 << 10
"""Data up to this size go through the channel, larger ones through the shared area."""

KEPT_AREA_BYTES = 16 * MEBIBYTE
"""An area is cut to this size after its use: an image of 2 megapixels takes 8 MB, and new pages are slow."""

WORN_BYTES = 160 * MEBIBYTE
"""A child that keeps this much more memory than before its first call is replaced. glibc keeps up to 64 MB of freed
memory, which speeds up the next call, and the area takes 16 MB."""

MAX_CALLS = 2_000
"""A child is replaced after this many calls, because some libraries leak slowly."""

CPU_MARGIN_S = 10
"""Processor time beyond the deadline after which the system ends a child whose parent does not."""


def max_children() -> int:
    """How many children run at a time: at least two, so that images need not wait for a long video."""
    return min(MAX_CHILDREN, max(2, n_decoders()))


def n_decoders() -> int:
    """How many images are decoded at a time: one processor stays free for the thread that prepares the first image."""
    return max(1, n_processors() - 1)
