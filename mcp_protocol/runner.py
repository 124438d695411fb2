"""What a worker does with a call or a task, whatever it throws: run, answer, tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp_protocol import jsonrpc
from mcp_protocol.answers import ToolAnswers
from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.log import log, log_failure
from mcp_protocol.stdio import ReaderGone
from mcp_protocol.tools import Toolbox, error_result

if TYPE_CHECKING:
    from mcp_protocol.call import Call, Observe
    from mcp_protocol.work_queue import Task

DEFECT = "Internal error; details are in the server's log."


class Runner:
    """Runs calls and tasks on the thread that asks; a call is answered by whoever claims it first.

    Arguments: what makes lines of results; the tools; the settings' problems, which every tool call answers while there
    are any; `look_for_changes`, called after each; `wake`, which makes the main loop look again; `observe`, told of
    each call that has ended.
    """

    def __init__(
        self,
        answers: ToolAnswers,
        toolbox: Callable[[], Toolbox],
        problems: tuple[str, ...],
        look_for_changes: Callable[[], None],
        wake: Callable[[], None],
        observe: Observe,
    ) -> None:
        self._answers = answers
        self._toolbox = toolbox
        self._problems = problems
        self._look_for_changes = look_for_changes
        self._wake = wake
        self._observe = observe

    def run_call(self, call: Call) -> None:
        """Runs one call and answers it, unless somebody else has."""
        try:
            line, outcome = self._tool_line(call) if call.answerer is None else (call.answerer.line(call), "ok")
            if call.claim():
                self._write_answer(call, line, outcome)
        except ReaderGone:
            self._wake()
        except ProtocolError as error:
            error.request_id = call.request_id
            if call.claim():
                self._refuse(call, error, "error")
        except BaseException:
            log_failure(call.tool)
            if call.claim():
                self.fail(call, DEFECT)
        self._look_for_changes()

    def run_task(self, task: Task) -> None:
        """Runs one task of the server's own."""
        try:
            task.run(self._look_for_changes)
        except Exception as error:
            log("ERROR", f"{task.name} failed: {error}")
        except BaseException:
            log_failure(task.name)
        self._look_for_changes()

    def fail(self, call: Call, text: str, outcome: str = "error") -> None:
        """Answers a claimed call with an error: a tool's in its result, any other's as the protocol's."""
        if call.answerer is not None:
            self._refuse(call, ProtocolError(jsonrpc.INTERNAL_ERROR, text, call.arguments, call.request_id), outcome)
            return
        try:
            self._write_answer(call, self._answers.line(call, error_result(text)), outcome)
        except ReaderGone:
            self._wake()

    def fail_lost(self, call: Call) -> None:
        """Answers a claimed call of which its worker was torn away."""
        self.fail(call, DEFECT)

    def _tool_line(self, call: Call) -> tuple[bytes, str]:
        result = error_result("\n".join(self._problems)) if self._problems else self._toolbox().run(call)
        return self._answers.line(call, result), "error" if result["isError"] else "ok"

    def _refuse(self, call: Call, error: ProtocolError, outcome: str) -> None:
        try:
            call.outlet.refuse(error)
        except ReaderGone:
            self._wake()
        finally:
            call.settle()
            self._observe(call, outcome)

    def _write_answer(self, call: Call, line: bytes, outcome: str) -> None:
        try:
            call.outlet.answer(line)
        finally:
            call.settle()
            self._observe(call, outcome)
