"""The loop that every training stage shares: learning rate, time box, checkpoints that a later run resumes from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_S = 180.0
# A step that seems to take longer was stopped meanwhile, and that is not training time.
LONGEST_STEP_S = 15.0
WARM_UP_STEPS = 150
DECAY_SHARE = 0.4


@dataclass(frozen=True)
class Stage:
    """How long and how fast a stage trains. It ends at `steps` or at `minutes`, whichever comes first."""

    name: str
    steps: int
    minutes: float
    rate: float
    weight_decay: float = 0.01


def run_stage(
    stage: Stage,
    modules: nn.ModuleDict,
    loss_of_step: Callable[[float, torch.Generator], Tensor],
    folder: Path,
    seed: int,
    on_checkpoint: Callable[[int], None],
) -> None:
    """Trains `modules` until the stage's end, resuming from `folder/<name>.pt` where that exists.

    The learning rate warms up, stays, and falls linearly to zero over the last `DECAY_SHARE` of the stage.
    `loss_of_step` gets the share of the stage that is done and a generator that depends on seed and step only, so that
    a resumed run sees the batches that an uninterrupted one would have seen. `on_checkpoint` is called after every
    checkpoint, the last one included.
    """
    path = folder / f"{stage.name}.pt"
    optimizer = torch.optim.AdamW(
        modules.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay, foreach=True
    )
    step, spent_s = 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent_s = state["step"], state["spent_s"]
    cores = torch.get_num_threads()
    saved_s, average = spent_s, math.nan
    progress = max(step / stage.steps, spent_s / (60 * stage.minutes))
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * min(1.0, (step + 1) / WARM_UP_STEPS, (1 - progress) / DECAY_SHARE)
        began, threads = time.monotonic(), idle_cores(cores)
        torch.set_num_threads(threads)
        loss = loss_of_step(progress, torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent_s += min(time.monotonic() - began, LONGEST_STEP_S)
        progress = max(step / stage.steps, spent_s / (60 * stage.minutes))
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if step % LOG_EVERY_STEPS == 0:
            print(f"{stage.name} step {step} loss {average:.5f} {spent_s / 60:.1f} min, {threads} threads", flush=True)
        if spent_s - saved_s > CHECKPOINT_EVERY_S or progress >= 1:
            saved_s = spent_s
            _save(path, modules, optimizer, step, spent_s)
            on_checkpoint(step)
    torch.set_num_threads(cores)


def idle_cores(most: int) -> int:
    """How many of `most` cores are idle now; at least 1.

    Threads wait for each other at every operation, so one thread that shares its core slows all of them down: next to
    another busy program, fewer threads are faster.
    """
    try:
        status = Path("/proc/stat").read_text()
    except OSError:
        return most
    running = int(status.partition("procs_running ")[2].split("\n")[0])
    return max(1, min(most, most - (running - 1)))


def _save(path: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, step: int, spent_s: float) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        "modules": modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "spent_s": spent_s,
    }
    torch.save(state, temporary)
    temporary.rename(path)
