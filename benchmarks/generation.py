"""`batch_generate` of 16 images, 4 at once, against a bare script that sends the same 16 requests.

Both use one vLLM-Omni server, which runs the bundled image model on this machine's CPU, and take turns. The bare
script uses httpx with a semaphore: it sends the same requests, and reads and discards each response. The MCP server
also decodes and checks each image, writes its parameters into the file, saves it, and shows all images on one sheet.
The time is from the first byte of the call to the last byte of its result. The row without a preview omits the sheet.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time

import httpx
import msgspec

from benchmarks.contenders import ROOT
from benchmarks.engines import engine_environment
from benchmarks.omni_process import omni_server
from benchmarks.pipe_server import Json, PipeServer, result_of, tool_line
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import ratio, spread

TITLE = "Generating images against bare httpx"
N_IMAGES = 16
AT_ONCE = 4
SIDE = 192
STEPS = 4
REQUIRED = 1.05
NAMES = ("bare httpx", "vllm_server.py", "… without a preview")


def measure(run: Run) -> Findings:
    """All ways, round by round."""
    n_rounds, n_images = run.pick(full=6, quick=1), run.pick(full=N_IMAGES, quick=4)
    with omni_server() as url, tempfile.TemporaryDirectory() as folder:
        environment = {**engine_environment(run.model), "OMNI_URL": url, "OMNI_OUTPUT_DIR": folder}
        model = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"][0]["id"]
        with PipeServer((sys.executable, str(ROOT / "vllm_server.py")), environment=environment) as server:
            server.initialize()
            _round(url, model, server, n_images, 0)
            rounds = [_round(url, model, server, n_images, number) for number in range(1, n_rounds + 1)]
    return Findings(
        [_table(n_images, rounds)], [_requirement(n_images, rounds)], [f"{n_rounds} rounds, {SIDE} × {SIDE} pixels."]
    )


def _round(url: str, model: str, server: PipeServer, n_images: int, number: int) -> tuple[float, ...]:
    """Seconds of each way; the order changes from round to round."""
    ways = [
        lambda: _bare_s(url, model, n_images),
        lambda: _ours_s(server, n_images, "small"),
        lambda: _ours_s(server, n_images, "none"),
    ]
    order = [(number + turn) % len(ways) for turn in range(len(ways))]
    seconds = {way: ways[way]() for way in order}
    return tuple(seconds[way] for way in range(len(ways)))


def _bare_s(url: str, model: str, n_images: int) -> float:
    started_s = time.perf_counter()
    asyncio.run(_ask_all(url, [_fields(model, seed) for seed in range(n_images)]))
    return time.perf_counter() - started_s


async def _ask_all(url: str, requests: list[Json]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as client:

        async def ask(fields: Json) -> None:
            async with slots:
                (await client.post("/v1/images/generations", json=fields)).raise_for_status()

        await asyncio.gather(*map(ask, requests))


def _ours_s(server: PipeServer, n_images: int, preview: str) -> float:
    arguments = {
        "prompts": [_prompt(seed) for seed in range(n_images)],
        "seeds": list(range(n_images)),
        "width": SIDE,
        "height": SIDE,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "max_concurrent": AT_ONCE,
        "preview": preview,
    }
    line = tool_line("batch_generate", arguments)
    started_s = time.perf_counter()
    reply = server.ask(line)
    seconds = time.perf_counter() - started_s
    summary = msgspec.json.decode(result_of(reply)["content"][0]["text"])
    assert summary["images_generated"] == n_images, summary
    return seconds


def _fields(model: str, seed: int) -> Json:
    return {
        "model": model,
        "prompt": _prompt(seed),
        "n": 1,
        "size": f"{SIDE}x{SIDE}",
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "seed": seed,
        "response_format": "b64_json",
        "output_format": "png",
    }


def _prompt(seed: int) -> str:
    colours = ("red", "green", "blue", "yellow")
    return f"a {colours[seed % 4]} circle on a {colours[(seed // 4 + seed + 1) % 4]} background"


def _table(n_images: int, rounds: list[tuple[float, ...]]) -> Table:
    bare = [each[0] for each in rounds]
    rows: list[list[Cell]] = []
    for name, seconds in zip(NAMES, zip(*rounds, strict=True), strict=True):
        times = spread(list(seconds))
        against = f"{ratio(list(seconds), bare).median:.3f}×"
        rows.append([name, round(times.median, 2), f"{times.low:.2f} to {times.high:.2f}", against])
    columns = ["way", "s in all", "range s", f"against {NAMES[0]}"]
    return Table(f"{n_images} images, {AT_ONCE} at once", columns, rows)


def _requirement(n_images: int, rounds: list[tuple[float, ...]]) -> Requirement:
    against = ratio([each[1] for each in rounds], [each[0] for each in rounds])
    what = f"{n_images} images, {AT_ONCE} at once: time over a bare httpx script"
    return Requirement(what, against.median, Bound.AT_MOST, REQUIRED, low=against.low, high=against.high)
