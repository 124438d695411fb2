"""Whether somebody has to give memory of a GPU back, decided from measured figures alone.

needed, free     idle   busy   action
one is unknown   any    any    nothing: what was not measured is no reason to act
needed <= free   any    any    nothing
needed > free    >= 1   any    sleep: one of the idle holders gives its memory back, then it is measured again
needed > free    0      >= 1   wait for the busy ones, which nobody interrupts
needed > free    0      0      nothing: there is nobody to ask
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MIN_CONTEXT_BYTES = 256 << 20
"""A CUDA context alone takes about this much: where other programs hold less, none of them uses the GPU."""
MIN_MODEL_BYTES = 2 << 30
"""What a server may keep on the GPU while it sleeps; where other programs hold less, there is nothing to gain."""


class Action(enum.Enum):
    """What comes next."""

    NOTHING = enum.auto()
    SLEEP = enum.auto()
    WAIT = enum.auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """An action and the reason for it, for the log."""

    action: Action
    reason: str


def decide(needed_bytes: int | None, free_bytes: int | None, n_idle: int, n_busy: int) -> Decision:
    """What to do before a load or a generation.

    Arguments:
        needed_bytes: what it takes in addition to what it holds; `None` where that is not known.
        free_bytes: the free memory of the GPU; `None` where the driver does not report it.
        n_idle: how many others could give memory back now.
        n_busy: how many could as soon as they have done their work.
    """
    if needed_bytes is None:
        return Decision(Action.NOTHING, "how much memory it needs is not known")
    if free_bytes is None:
        return Decision(Action.NOTHING, "the free memory was not measured")
    if needed_bytes <= free_bytes:
        return Decision(Action.NOTHING, f"{_gb(needed_bytes)} GB are needed and {_gb(free_bytes)} GB are free")
    short = f"{_gb(needed_bytes)} GB are needed and only {_gb(free_bytes)} GB are free"
    if n_idle:
        return Decision(Action.SLEEP, short)
    if n_busy:
        return Decision(Action.WAIT, f"{short}; the others are in use")
    return Decision(Action.NOTHING, f"{short}; nobody can give memory back")


def needed_by_generation(whole_bytes: int | None, others_bytes: int | None, *, sleeps: bool) -> int | None:
    """What a vLLM-Omni server takes for a generation in addition to what it holds; `None` where that is not known.

    Arguments:
        whole_bytes: its weights and its work: its last peak, or the estimate of the model's profile.
        others_bytes: what all programs but this one hold on the GPU.
        sleeps: whether it has put its weights away.
    """
    if whole_bytes is None or others_bytes is None:
        return None
    if others_bytes < MIN_CONTEXT_BYTES and not sleeps:
        return None  # it runs somewhere else: on a CPU, or on another GPU
    return max(0, whole_bytes - others_bytes)


def needed_by_load(share: float, total_bytes: int | None, held_bytes: int | None) -> int | None:
    """What a chat model takes in addition to what it holds; `None` where that is not known.

    Arguments:
        share: its part of the GPU's memory, which its KV cache fills.
        total_bytes: all memory of the GPU.
        held_bytes: what its processes hold there, also while it is offloaded; `None` where that is not known.
    """
    return None if total_bytes is None else max(0, int(share * total_bytes) - (held_bytes or 0))


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):.1f}"
