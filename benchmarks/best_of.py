"""`generate_image` with `best_of` against single images, by what their pixels show.

The bundled image model paints prompts of its world on a vLLM-Omni server, and the bundled vision model chooses. What an
image shows is measured on its pixels, by no model: the colour of the middle, the colour of the border, and the shape
with the most similar outline. An image is right if all three are the prompt's. A single image is the first candidate,
which its seed makes again. The wordings are those of the image model's training, or others, with which it is often
wrong. Both models run in float32.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contenders import ROOT
from benchmarks.engines import engine_environment
from benchmarks.float_weights import copied
from benchmarks.measured_shapes import COLOURS, SHAPES, Shown, shown
from benchmarks.omni_process import omni_server
from benchmarks.pipe_server import Json, PipeServer, result_of, tool_line
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from omni.images.checks import THRESHOLD

TITLE = "The best of several images"
IMAGE_MODEL = ROOT / "models" / "demo-image"
N_CANDIDATES = 4
REQUIRED, REQUIRED_GAIN = 95.0, 8.0
"""Percent right, or as many points more than single images."""
SEED = 1
OTHER_WORDINGS = (
    "picture: {it}, background {ground}",
    "{it} placed on a {ground} background",
    "on a {ground} background, {it}",
    "{ground} all around, {it} in the middle",
    "{shape}: {colour}; background: {ground}",
    "{it} surrounded by {ground}",
    "behind {it} everything is {ground}",
    "a {ground} wall with {it} painted on it",
    "{it}, and behind it a {ground} background",
    "the background is {ground} and the {shape} is {colour}",
    "{colour} {shape}. {ground} background.",
    "a {ground} canvas showing {it}",
    "{it} with {ground} behind it",
    "{ground} background; {it}",
    "a {shape} on a {ground} background, the {shape} is {colour}",
)
"""Not in the training of the image model."""


class Asked(msgspec.Struct, frozen=True):
    """A prompt and what it asks for."""

    prompt: str
    wanted: Shown


class Outcome(msgspec.Struct, frozen=True):
    """What a single image and the best of several show, and the probabilities that the chat model gave them."""

    wanted: Shown
    single: Shown
    best: Shown
    single_probability: float
    best_probability: float


def measure(run: Run) -> Findings:
    """A call for each prompt, and one more where the first candidate was not chosen."""
    usual = _prompts(run.pick(full=200, quick=3))
    other = _prompts(run.pick(full=45, quick=3), OTHER_WORDINGS)
    with tempfile.TemporaryDirectory() as folder, omni_server(str(copied(IMAGE_MODEL, Path(folder)))) as url:
        environment = {
            **engine_environment(run.model),
            "VLLM_DTYPE": "float32",
            "OMNI_URL": url,
            "OMNI_OUTPUT_DIR": f"{folder}/out",
        }
        with PipeServer((sys.executable, str(ROOT / "vllm_server.py")), environment=environment) as server:
            server.initialize()
            known = [_outcome(server, each, 1000 * number) for number, each in enumerate(usual)]
            new = [_outcome(server, each, 1000 * number) for number, each in enumerate(other)]
    tables = [
        _table(f"right by their pixels, {len(known)} prompts in wordings of the training", known),
        _table(f"right by their pixels, {len(new)} prompts in other wordings", new),
        _verdicts([*known, *new]),
    ]
    return Findings(tables, [_requirement(known)], ["128 × 128 pixels, 4 steps."])


def _prompts(count: int, wordings: Sequence[str] = ()) -> list[Asked]:
    """Random prompts of the image model's world: in these wordings, or those of its training."""
    captions = _captions()
    rng = random.Random(SEED)
    asked = []
    for number in range(count):
        names = captions.random_names(rng, tuple(COLOURS), SHAPES)
        if wordings:
            prompt = captions.phrase(wordings[number % len(wordings)], *names)
        else:
            prompt = captions.caption(rng, *names)
        asked.append(Asked(prompt, Shown(*names)))
    return asked


def _captions() -> Any:
    """The wordings of the image model's training, from its folder, which is no package."""
    spec = importlib.util.spec_from_file_location("captions", IMAGE_MODEL / "captions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _outcome(server: PipeServer, asked: Asked, seed: int) -> Outcome:
    """Makes the candidates, and a single image where the first candidate was not chosen."""
    told = _generated(server, {"prompt": asked.prompt, "seed": seed, "best_of": N_CANDIDATES})
    first = told["candidates"][0]
    best = single = _shown(told)
    if not first["chosen"]:
        single = _shown(_generated(server, {"prompt": asked.prompt, "seed": seed}))
    return Outcome(asked.wanted, single, best, first["probability"], told["check"]["probability"])


def _generated(server: PipeServer, arguments: Json) -> Json:
    reply = server.ask(tool_line("generate_image", {**arguments, "preview": "none"}))
    told: Json = msgspec.json.decode(result_of(reply)["content"][0]["text"])
    assert told["status"] == "success", told
    return told


def _shown(told: Json) -> Shown:
    return shown(Path(told["file_path"]).read_bytes())


def _share(right: Sequence[bool]) -> float:
    return round(100 * sum(right) / len(right), 1)


def _table(title: str, outcomes: Sequence[Outcome]) -> Table:
    wanted = [each.wanted for each in outcomes]
    rows = [
        _row("a single image", wanted, [each.single for each in outcomes]),
        _row(f"best_of {N_CANDIDATES}", wanted, [each.best for each in outcomes]),
    ]
    return Table(title, ["way", "right", "%", "% colour", "% shape", "% background"], rows)


def _row(name: str, wanted: Sequence[Shown], found: Sequence[Shown]) -> list[Cell]:
    pairs = list(zip(wanted, found, strict=True))
    fields = [_share([getattr(a, field) == getattr(b, field) for a, b in pairs]) for field in Shown._fields]
    return [name, f"{sum(a == b for a, b in pairs)} of {len(pairs)}", _share([a == b for a, b in pairs]), *fields]


def _verdicts(outcomes: Sequence[Outcome]) -> Table:
    """How often the verdict about a single image agrees with its pixels."""
    rows: list[list[Cell]] = []
    for name, is_right in (("right by its pixels", True), ("wrong by its pixels", False)):
        found = [each.single_probability >= THRESHOLD for each in outcomes if (each.single == each.wanted) is is_right]
        rows.append([name, len(found), sum(found), len(found) - sum(found)])
    return Table("verdicts about single images", ["image", "images", "shows the prompt", "misses the prompt"], rows)


def _requirement(outcomes: Sequence[Outcome]) -> Requirement:
    single = _share([each.single == each.wanted for each in outcomes])
    best = _share([each.best == each.wanted for each in outcomes])
    bound = min(REQUIRED, single + REQUIRED_GAIN)
    what = (
        f"best_of {N_CANDIDATES}, right by the pixels: {REQUIRED:g} %, or {REQUIRED_GAIN:g} points more than a single "
        f"image, which is right in {single:g} %"
    )
    return Requirement(what, best, Bound.AT_LEAST, bound, unit=" %")
