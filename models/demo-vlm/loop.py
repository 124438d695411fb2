"""The training loop both stages share: learning-rate schedule, time box, checkpoints that a later run resumes from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_S = 180.0
WARM_UP_STEPS = 200
DECAY_SHARE = 0.3
VISION_PREFIXES = ("tower.", "heads.", "model.model.vision_model.")


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


@dataclass(frozen=True)
class Stage:
    """How long and how fast a stage trains. It ends at `steps` or at `minutes`, whichever comes first."""

    name: str
    steps: int
    minutes: float
    vision_rate: float
    language_rate: float
    weight_decay: float = 0.02

    def parameter_groups(self, modules: nn.ModuleDict) -> list[dict[str, Any]]:
        """The parameters of the vision tower and of the text model, each with their peak learning rate."""
        named = list(modules.named_parameters())
        seeing = [parameter for name, parameter in named if name.startswith(VISION_PREFIXES)]
        talking = [parameter for name, parameter in named if not name.startswith(VISION_PREFIXES)]
        groups = [{"params": seeing, "peak": self.vision_rate}, {"params": talking, "peak": self.language_rate}]
        return [group for group in groups if group["params"]]


def run_stage(
    stage: Stage,
    modules: nn.ModuleDict,
    loss_of_step: Callable[[int, np.random.Generator], Tensor],
    folder: Path,
    seed: int,
    on_checkpoint: Callable[[int], None],
) -> None:
    """Trains `modules` until the stage's end, resuming from `folder/<name>.pt` where that exists.

    The learning rates warm up, stay, and fall linearly to zero over the last `DECAY_SHARE` of the stage.
    `loss_of_step` gets the step and a generator that depends on seed and step only, so a resumed run sees the batches
    that an uninterrupted one would have seen. `on_checkpoint` is called after every checkpoint, the last one included.
    """
    path = folder / f"{stage.name}.pt"
    groups = stage.parameter_groups(modules)
    optimizer = torch.optim.AdamW(groups, lr=stage.language_rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay)
    step, spent_s = 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=False)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        step, spent_s = state["step"], state["spent_s"]
    cores = torch.get_num_threads()
    started, saved_s, average = time.monotonic() - spent_s, spent_s, math.nan
    progress = max(step / stage.steps, spent_s / (60 * stage.minutes))
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / WARM_UP_STEPS, (1 - progress) / DECAY_SHARE)
        threads = idle_cores(cores)
        torch.set_num_threads(threads)
        loss = loss_of_step(step, np.random.default_rng([seed, step]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent_s = time.monotonic() - started
        progress = max(step / stage.steps, spent_s / (60 * stage.minutes))
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if step % LOG_EVERY_STEPS == 0:
            print(f"{stage.name} step {step} loss {average:.4f} {spent_s / 60:.1f} min, {threads} threads", flush=True)
        if spent_s - saved_s > CHECKPOINT_EVERY_S or progress >= 1:
            saved_s = spent_s
            _save(path, modules, optimizer, step, spent_s)
            on_checkpoint(step)


def _save(path: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, step: int, spent_s: float) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        "modules": modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "step": step,
        "spent_s": spent_s,
    }
    torch.save(state, temporary)
    temporary.rename(path)
