"""All kinds of requests at once, for minutes: the process's memory at the end, and one response for each.

Rounds of requests, up to 12 pending: every tool, resources, prompts and completion, images by path and in base64,
sessions in a file, jobs, wrong arguments, lines that are not messages, and calls that are cancelled a moment later.
The model is the bundled one in the server's own engine; images, videos and speech come from scripted servers. After
each round all responses are awaited and the model is unloaded, alternately by the idle timeout and by `release_gpu`;
then the process is measured, so the next round loads the model again. Growth is the median resident memory of the last
quarter of the rounds divided by that of the first quarter after the settling phase (a quarter of all rounds); the slope
is that of a least-squares line through all rounds after that phase.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.contenders import ROOT
from benchmarks.engines import engine_environment
from benchmarks.pipe_server import Json, PipeServer
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.soak_client import SoakClient, Tally, wait_until
from benchmarks.soak_traffic import BROKEN, Request, Traffic, tool
from tests.e2e.processes import children_of
from tests.scripted_omni import ScriptedOmni
from tests.scripted_speech import ScriptedSpeechServer
from tests.scripted_video import FROM_WORDS_MODEL, ScriptedVideoServer

TITLE = "Soak"
REQUIRED_MIB = 10.0
SETTLING_SHARE = 0.25
MIN_ROUNDS = 4
CANCELLED_SHARE = 0.5
IDLE_S = 1
IDLE_WAIT_S = 60.0
N_SHOWN = 12


class Reading(msgspec.Struct, frozen=True):
    """The process after one round, with nothing loaded and nothing to do."""

    at_s: float
    n_answered: int
    resident_mib: float
    n_descriptors: int
    n_threads: int
    n_children: int


class Soak(msgspec.Struct, frozen=True):
    """What a soak found."""

    readings: list[Reading]
    tally: Tally
    tools_left_out: list[str]

    @property
    def settled(self) -> list[Reading]:
        """The readings after the settling phase."""
        return self.readings[int(len(self.readings) * SETTLING_SHARE) :]

    @property
    def growth_mib(self) -> float:
        """How much the process grew during the settled phase."""
        size = max(1, len(self.readings) // 4)
        return _resident_mib(self.settled[-size:]) - _resident_mib(self.settled[:size])

    @property
    def slope_mib_per_hour(self) -> float:
        """The trend of the settled phase."""
        slope, _ = statistics.linear_regression(
            [reading.at_s for reading in self.settled], [reading.resident_mib for reading in self.settled]
        )
        return slope * 3600

    def change(self, what: str) -> int:
        """How many more descriptors, threads or children there are at the end than when the process had settled."""
        last = int(getattr(self.readings[-1], what))
        return last - max(int(getattr(reading, what)) for reading in self.settled[: max(1, len(self.settled) // 4)])


def measure(run: Run) -> Findings:
    """Soaks for `run.minutes`."""
    found = soak(run.model, 60 * (0.5 if run.quick else run.minutes))
    minutes = found.readings[-1].at_s / 60
    required = [
        Requirement(f"Soak of {minutes:.0f} minutes: growth of resident memory after the settling phase",
                    found.growth_mib, Bound.AT_MOST, REQUIRED_MIB, unit=" MiB"),
        *(
            Requirement(f"Soak of {minutes:.0f} minutes: {what}", float(figure), Bound.AT_MOST, 0.0, unit="")
            for what, figure in (
                ("requests not answered exactly once", found.tally.n_not_once),
                ("answers of the wrong kind", len(found.tally.wrong)),
                ("file descriptors more than before", found.change("n_descriptors")),
                ("threads more than before", found.change("n_threads")),
                ("child processes more than before", found.change("n_children")),
            )
        ),
    ]  # fmt: skip
    tally = found.tally
    notes = [
        f"{len(found.readings)} rounds, {tally.answered.total():,} answers, {tally.refused.total():,} of them errors "
        f"that were due, {tally.cancelled.total():,} calls cancelled, {tally.n_broken:,} lines that are no messages, "
        f"{tally.n_notifications:,} notifications; slope {found.slope_mib_per_hour:+.1f} MiB an hour.",
        *(f"Wrong: {text}" for text in tally.wrong[:5]),
        *(f"Tools left out: {', '.join(found.tools_left_out)}." for _ in found.tools_left_out[:1]),
    ]
    return Findings([_readings_table(found), _traffic_table(tally)], required, notes)


def soak(model: str, seconds: float, seed: int = 0) -> Soak:
    """Runs rounds until the time is up, four at least."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        ScriptedOmni() as omni,
        ScriptedVideoServer() as video,
        ScriptedVideoServer(FROM_WORDS_MODEL) as words,
        ScriptedSpeechServer() as speech,
    ):
        omni.delay_s = 0.05
        environment = engine_environment(model) | _settings(Path(folder), omni, video, words, speech)
        with PipeServer((sys.executable, str(ROOT / "vllm_server.py")), environment=environment) as pipes:
            pipes.initialize()
            rounds = Rounds(pipes, Path(folder), seed)
            while len(rounds.readings) < MIN_ROUNDS or time.monotonic() - rounds.begun_s < seconds:
                rounds.run()
                for server in (omni, video, speech):
                    server.seen.clear()
                video.submitted[:-1] = []
            listed = rounds.client.ask(Request("tools/list", "tools/list", {}))
            rounds.client.close()
            return Soak(rounds.readings, rounds.client.tally, rounds.left_out(listed))


class Rounds:
    """The rounds on one server."""

    def __init__(self, pipes: PipeServer, folder: Path, seed: int) -> None:
        self.begun_s = time.monotonic()
        self.client = SoakClient(pipes)
        self.readings: list[Reading] = []
        self._pid = pipes.pid
        self._out = folder / "out"
        self._traffic = Traffic(folder, seed)
        self._random = random.Random(seed)
        self._called: set[str] = set()

    def run(self) -> None:
        """Sends one round, waits for all of it, has the model's memory given back, and measures."""
        self._traffic.jobs = self.client.jobs
        cancelled: list[tuple[float, int]] = []
        for request in self._traffic.round():
            number = self.client.send(request)
            self._called.add(str(request.params.get("name")))
            if request.may_be_cancelled and self._random.random() < CANCELLED_SHARE:
                cancelled.append((time.monotonic() + self._random.uniform(0, 0.5), number))
            due = [other for at_s, other in cancelled if at_s <= time.monotonic()]
            for other in due:
                self.client.cancel(other)
            cancelled = [(at_s, other) for at_s, other in cancelled if other not in due]
            if self._random.random() < 0.05:
                self.client.send_broken(self._random.choice(BROKEN)(self._random))
        for _, other in cancelled:
            self.client.cancel(other)
        self.client.drain()
        self._give_back(by_itself=len(self.readings) % 2 == 0)
        self.client.drain()
        shutil.rmtree(self._out, ignore_errors=True)
        self.readings.append(self._reading())

    def left_out(self, listed: Json) -> list[str]:
        """Tools of the server that no round called."""
        names = {str(item["name"]) for item in listed["result"]["tools"]}
        return sorted(names - self._called)

    def _give_back(self, by_itself: bool) -> None:
        self._called |= {"release_gpu"}
        if by_itself:
            self.client.ask(tool("update_gpu_timeout", {"timeout_seconds": IDLE_S}))
            wait_until(lambda: self._state() == "unloaded", IDLE_WAIT_S)
            self.client.ask(tool("update_gpu_timeout", {"timeout_seconds": 0}))
        self.client.ask(tool("release_gpu"))

    def _state(self) -> str:
        answer = self.client.ask(tool("get_gpu_status"))
        return str(answer["result"]["structuredContent"]["state"])

    def _reading(self) -> Reading:
        process = Path(f"/proc/{self._pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Reading(
            at_s=time.monotonic() - self.begun_s,
            n_answered=self.client.tally.answered.total(),
            resident_mib=int(status["VmRSS"].split()[0]) / 1024,
            n_descriptors=len(os.listdir(process / "fd")),
            n_threads=int(status["Threads"]),
            n_children=len(children_of(self._pid)),
        )


def _settings(
    folder: Path,
    omni: ScriptedOmni,
    video: ScriptedVideoServer,
    words: ScriptedVideoServer,
    speech: ScriptedSpeechServer,
) -> dict[str, str]:
    """Small limits, which caches reach within the settling phase."""
    return {
        "OMNI_URL": omni.url,
        "OMNI_VIDEO_URL": video.url,
        "OMNI_VIDEO_MODELS": f"words={words.url}",
        "OMNI_SPEECH_URL": speech.url,
        "OMNI_OUTPUT_DIR": str(folder / "out"),
        "OMNI_JOB_TTL": "5",
        "VLLM_SESSION_DB": str(folder / "sessions.db"),
        "VLLM_MAX_SESSIONS": "8",
        "VLLM_MAX_SESSION_MESSAGES": "12",
        "GPU_IDLE_TIMEOUT": "0",
    }


def _resident_mib(readings: Sequence[Reading]) -> float:
    return statistics.median(reading.resident_mib for reading in readings)


def _readings_table(found: Soak) -> Table:
    step = max(1, len(found.readings) // N_SHOWN)
    shown = found.readings[::step]
    if shown[-1] is not found.readings[-1]:
        shown.append(found.readings[-1])
    rows: list[list[Cell]] = [
        [round(r.at_s / 60, 1), r.n_answered, round(r.resident_mib), r.n_descriptors, r.n_threads, r.n_children]
        for r in shown
    ]
    columns = ["minute", "answers", "resident MiB", "descriptors", "threads", "children"]
    return Table("after a round, nothing loaded", columns, rows)


def _traffic_table(tally: Tally) -> Table:
    rows: list[list[Cell]] = [
        [kind, sent, tally.answered[kind], tally.cancelled[kind], tally.refused[kind]]
        for kind, sent in sorted(tally.sent.items())
    ]
    return Table("requests", ["kind", "sent", "answered", "cancelled", "answered with an error"], rows)
