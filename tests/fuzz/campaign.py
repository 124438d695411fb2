"""Plays streams to the real server and holds it to what the oracle says is due."""

from __future__ import annotations

import array
import contextlib
import fcntl
import re
import shutil
import tempfile
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.lines import NotAMessage
from tests.e2e.server_process import ANSWER_S, EXIT_S, ServerProcess
from tests.fuzz.json_values import A_JOB
from tests.fuzz.junk import MAX_LINE_BYTES
from tests.fuzz.ledger import Ledger, Violation
from tests.fuzz.messages import APPS, CLIENT, FRESH, IDS_A_STREAM, Stream, encoded, envelope, with_ids
from tests.fuzz.oracle import Due, Oracle
from tests.fuzz.scripted_server import HELD
from tests.scripted_omni import ScriptedOmni, png
from tests.scripted_speech import ScriptedSpeechServer

Json = dict[str, Any]

PROGRAM = Path(__file__).with_name("scripted_server.py")
SECRETS = {
    "HUGGING_FACE_HUB_TOKEN": "hf_secretsecret",
    "OMNI_API_KEY": "omni-secretsecret",
    "MY_PASSWORD": "pw-secretsecret",
}
LATE_S = 10.0
"""How long answers may lag behind those to the last messages of a stream."""
WARM_UP_MESSAGES = 2_000
"""After so many the process has loaded all it ever loads, and its memory is counted from there."""
STREAMS_A_TIDYING = 50


@dataclass
class Tally:
    """What a run has come to; `peak_growth_bytes` is None before the warm-up is over."""

    n_streams: int = 0
    n_messages: int = 0
    n_due: int = 0
    n_answered: int = 0
    peak_growth_bytes: int | None = None


class Conversation:
    """One process from its start to its end, and what it owes."""

    def __init__(self, environment: dict[str, str], tools: frozenset[str] = frozenset()) -> None:
        self.server = ServerProcess(environment, program=PROGRAM)
        self.ledger = Ledger(Oracle(tools, HELD, MAX_LINE_BYTES))
        self.n_messages = 0
        self.next_id = 1_000
        self.resting_bytes: int | None = None
        self._job = b"none"

    def play(self, stream: Stream) -> None:
        """Sends a stream and two last requests, and reads until all is answered that must be.

        Raises: `Violation`.
        """
        lines = [line.replace(b'"%s"' % A_JOB.encode(), b'"%s"' % self._job) for line in with_ids(stream, self.next_id)]
        self.next_id += IDS_A_STREAM
        self.n_messages += sum(1 for line in lines if line.strip())
        opening = [] if stream.version == FRESH else [_initialize(stream.version), _QUIET]
        last = [_last_call(self.next_id), encoded({"jsonrpc": "2.0", "id": f"ping{self.next_id}", "method": "ping"})]
        self.ledger.begin_stream()
        self.ledger.expect(b"".join([*opening, *lines, *last]))
        try:
            self.server.send_bytes(b"".join(opening))
            self._send_cut(b"".join(lines), stream.cuts)
            self.server.send_bytes(b"".join(last))
        except BrokenPipeError:
            raise Violation("crashed", self.server.stderr[-3_000:]) from None
        self._settle(f"ping{self.next_id}", f"call{self.next_id}")
        if stream.version != FRESH:  # a process of its own is ended next, and answers its streams then
            self._end_streams()
        self._check_log()

    def end(self) -> None:
        """Ends the input; what is owed then comes, and the process leaves in good order.

        Raises: `Violation`.
        """
        self.server.close_stdin()
        with contextlib.suppress(EOFError):
            while True:
                self._take(EXIT_S)
        if lost := self.ledger.open(with_streams=True):
            raise Violation("lost", _listed(lost))
        if status := self.server.wait():
            raise Violation("crashed", f"status {status}: {self.server.stderr[-3_000:]}")

    def _settle(self, ping: str, call: str) -> None:
        """Reads until all is answered. What is answered at once has its answer before the last ping has."""
        waiting = {ping, call}
        while waiting or self.ledger.open():
            if ping not in waiting and (lost := self.ledger.overdue()):
                raise Violation("lost", _listed(lost))
            try:
                waiting.discard(self._take(ANSWER_S if waiting else LATE_S))
            except TimeoutError:
                raise Violation("lost", _listed(self.ledger.open())) from None
            except EOFError:
                raise Violation("crashed", self.server.stderr[-3_000:]) from None

    def _take(self, timeout_s: float) -> Any:
        try:
            message = self.server.read_message(timeout_s)
        except NotAMessage as error:
            raise Violation("wrong", f"no message: {error}") from None
        line = self.server.raw_lines[-1]
        if any(secret.encode() in line for secret in SECRETS.values()):
            raise Violation("wrong", f"a secret: {line[:500]!r}")
        if told := _JOB.search(line):
            self._job = told[1]
        del self.server.raw_lines[:-1]
        self.ledger.take(message)
        return str(message.get("id"))

    def _end_streams(self) -> None:
        cancels = [
            encoded({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}})
            for request_id in {due.key: due.key[1] for due in self.ledger.streams()}.values()
        ]
        self.ledger.expect(b"".join(cancels))
        self.server.send_bytes(b"".join(cancels))

    def _check_log(self) -> None:
        log = self.server.stderr
        if "Traceback" in log or any(secret in log for secret in SECRETS.values()):
            raise Violation("wrong", f"in the log: {log[-3_000:]}")

    def _send_cut(self, data: bytes, cuts: tuple[float, ...] | str) -> None:
        """Writes the pieces so that the server gets each by itself."""
        places = range(1, len(data)) if isinstance(cuts, str) else [int(cut * len(data)) for cut in cuts]
        for begin, end in zip([0, *places], [*places, len(data)], strict=True):
            self.server.send_bytes(data[begin:end])
            if end < len(data):
                self._wait_until_read()

    def _wait_until_read(self) -> None:
        assert self.server.process.stdin is not None
        waiting = array.array("i", [1])
        until_s = time.monotonic() + ANSWER_S
        while waiting[0] and self.server.process.poll() is None and time.monotonic() < until_s:
            fcntl.ioctl(self.server.process.stdin.fileno(), termios.FIONREAD, waiting)


class Campaign:
    """Streams to one process as long as it keeps its promises, and to another one after it broke one.

    Arguments: more of the process's environment.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._extra = environment or {}
        self.tally = Tally()
        self._resources = contextlib.ExitStack()
        self._current: Conversation | None = None

    def __enter__(self) -> Campaign:
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        self._output_folder = folder / "generated"
        self.images = [str(folder / "image.png"), (folder / "a b.png").as_uri()]
        (folder / "image.png").write_bytes(png((40, 30), 7))
        (folder / "a b.png").write_bytes(png((16, 16), 9))
        omni = self._resources.enter_context(ScriptedOmni())
        speech = self._resources.enter_context(ScriptedSpeechServer())
        self._environment = {
            **SECRETS,
            "OMNI_URL": omni.url,
            "OMNI_SPEECH_URL": speech.url,
            "OPENAI_BASE_URL": "http://127.0.0.1:9",
            "OMNI_OUTPUT_DIR": str(self._output_folder),
            "OMNI_JOB_TTL": "3",
            "OMNI_TIMEOUT": "5",
            "FUZZ_MAX_LINE_BYTES": str(MAX_LINE_BYTES),
            "VLLM_MAX_SESSIONS": "20",
            "VLLM_LOG_LEVEL": "WARNING",
            "VLLM_TOOL_PARSER": "hermes",
            **self._extra,
        }
        with ServerProcess(self._environment, program=PROGRAM) as server:
            self.tools: list[Json] = server.request("tools/list", {"_meta": envelope(APPS)})["result"]["tools"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_up()
        self._resources.close()

    def play(self, stream: Stream) -> None:
        """Plays one stream.

        Raises: `Violation`.
        """
        conversation = self._current if stream.version != FRESH else None
        if conversation is None:
            conversation = Conversation(self._environment, frozenset(tool["name"] for tool in self.tools))
        if stream.version != FRESH:
            self._current = conversation
        n_before, n_due, n_answered = (
            conversation.n_messages,
            conversation.ledger.n_due,
            conversation.ledger.n_answered,
        )
        try:
            conversation.play(stream)
            if stream.version == FRESH:
                conversation.end()
        except Violation:
            self._current = None if conversation is self._current else self._current
            conversation.server.kill()
            raise
        finally:
            self.tally.n_streams += 1
            self.tally.n_messages += conversation.n_messages - n_before
            self.tally.n_due += conversation.ledger.n_due - n_due
            self.tally.n_answered += conversation.ledger.n_answered - n_answered
        if stream.version == FRESH:
            conversation.server.kill()
        else:
            self._weigh(conversation)
        if self.tally.n_streams % STREAMS_A_TIDYING == 0:
            shutil.rmtree(self._output_folder, ignore_errors=True)

    def violation_of(self, stream: Stream) -> Violation | None:
        """What a stream breaks in a process of its own; not counted."""
        conversation = Conversation(self._environment, frozenset(tool["name"] for tool in self.tools))
        try:
            conversation.play(stream)
            conversation.end()
        except Violation as violation:
            return violation
        finally:
            conversation.server.kill()
        return None

    def end(self) -> None:
        """Ends the process that is left; raises `Violation`."""
        if self._current is not None:
            self._current.end()
        self._give_up()

    def _give_up(self) -> None:
        if self._current is not None:
            self._current.server.kill()
            self._current = None

    def _weigh(self, conversation: Conversation) -> None:
        if conversation.n_messages < WARM_UP_MESSAGES:
            return
        resident_bytes = conversation.server.resident_bytes()
        if conversation.resting_bytes is None:
            conversation.resting_bytes = resident_bytes
        growth_bytes = resident_bytes - conversation.resting_bytes
        self.tally.peak_growth_bytes = max(growth_bytes, self.tally.peak_growth_bytes or 0)


_JOB = re.compile(rb'(?:job_id|batch_id)[\\": ]+([\w-]+)')
_QUIET = encoded({"jsonrpc": "2.0", "id": "quiet", "method": "logging/setLevel", "params": {"level": "emergency"}})


def _initialize(version: str) -> bytes:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    return encoded({"jsonrpc": "2.0", "id": "initialize", "method": "initialize", "params": params})


def _last_call(number: int) -> bytes:
    return encoded(
        {"jsonrpc": "2.0", "id": f"call{number}", "method": "tools/call", "params": {"name": "list_sessions"}}
    )


def _listed(dues: list[Due]) -> str:
    return f"{len(dues)} answers, the first to {dues[0].line[:600]!r}" if dues else "the stream does not end"
