"""Runs calls and tasks on a worker thread and writes the responses, whatever they raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp_protocol import jsonrpc
from mcp_protocol.calls.deferred import Deferred
from mcp_protocol.calls.parked_calls import CannotAsk
from mcp_protocol.calls.question import METHOD, Question
from mcp_protocol.jsonrpc import Json, ProtocolError, encode, notification_message, request_message, result_message
from mcp_protocol.log import log, log_failure
from mcp_protocol.stdio import ReaderGone
from mcp_protocol.tools.toolbox import Toolbox, error_result
from mcp_protocol.versions import finished

if TYPE_CHECKING:
    from mcp_protocol.calls.call import Call, Hooks
    from mcp_protocol.calls.deferred import DeferredWork
    from mcp_protocol.calls.sealed_states import SealedStates
    from mcp_protocol.calls.task import Task

TASK_BYTES = 1_000
"""What the response about a task has besides the result of the task."""
INTERNAL_ERROR_TEXT = "Internal error; details are in the server's log."


class Runner:
    """Runs calls and tasks in the calling thread.

    Arguments:
        server_info: the `serverInfo` of results.
        max_result_bytes: the longest response line to a tool call.
        toolbox: returns the tools.
        problems: errors in the settings; while there are any, every tool call returns them.
        notify_changes: called after each call and task.
        hooks: functions that the server calls.
    """

    def __init__(
        self,
        server_info: Json,
        max_result_bytes: int,
        toolbox: Callable[[], Toolbox],
        problems: tuple[str, ...],
        notify_changes: Callable[[], None],
        hooks: Hooks,
    ) -> None:
        self._server_info = server_info
        self._max_result_bytes = max_result_bytes
        self._toolbox = toolbox
        self._problems = problems
        self._notify_changes = notify_changes
        self._hooks = hooks
        self.open_question: Callable[[Call, Question], str]
        """Opens a question of a call and returns its id; the server sets it to `ParkedCalls.begin`."""
        self._states_lock = threading.Lock()
        self._made_states: SealedStates | None = None

    def run_call(self, call: Call) -> None:
        """Runs one call and responds, unless another thread has, the call waits for the answer of the user, or a task
        goes on without it."""
        self._run(call, lambda: self._toolbox().run(call))

    def _run(self, call: Call, result: Callable[[], Json]) -> None:
        try:
            line, outcome = (
                self._tool_line(call, result)
                if call.request_handler is None
                else (call.request_handler.line(call), "ok")
            )
            if line and call.claim_response():
                self._respond(call, line, outcome)
        except Deferred as deferred:
            self._defer(call, deferred.work)
        except ReaderGone:
            self._hooks.wake()
        except ProtocolError as error:
            error.request_id = call.request_id
            if call.claim_response():
                self._respond_error(call, error, "error")
        except BaseException:
            log_failure(call.tool)
            if call.claim_response():
                self.fail(call, INTERNAL_ERROR_TEXT)
        self._notify_changes()

    def _defer(self, call: Call, work: DeferredWork) -> None:
        """Responds to the call of a task when its work has ended."""
        assert call.task is not None
        if call.is_claimed:
            work.cancel()
        call.task.defer(work, lambda: self._run(call, lambda: self._toolbox().report(call, work)))

    def run_task(self, task: Task) -> None:
        """Runs one task."""
        try:
            task.run(self._notify_changes)
        except Exception as error:
            log("ERROR", f"{task.name} failed: {error}")
        except BaseException:
            log_failure(task.name)
        self._notify_changes()

    def fail(self, call: Call, text: str, outcome: str = "error") -> None:
        """Responds to a claimed call with an error: `isError` for a tool, a JSON-RPC error for any other method."""
        if call.request_handler is not None:
            error = ProtocolError(jsonrpc.INTERNAL_ERROR, text, call.arguments, call.request_id)
            self._respond_error(call, error, outcome)
            return
        try:
            if call.question_id is not None and outcome == "timeout":  # so that the client closes the form
                params = {"requestId": call.question_id, "reason": text}
                call.context.writer.send(notification_message("notifications/cancelled", params))
            self._respond(call, self._line(call, error_result(text)), outcome)
        except ReaderGone:
            self._hooks.wake()

    def fail_lost(self, call: Call) -> None:
        """Responds to a claimed call whose worker was interrupted by an exception."""
        self.fail(call, INTERNAL_ERROR_TEXT)

    def _tool_line(self, call: Call, result_of: Callable[[], Json]) -> tuple[bytes, str]:
        """The response line of a tool call and its outcome; an empty line if the user is asked by a request."""
        if call.retry is not None:
            self._states().take_answers(call, call.retry)
        try:
            result = error_result("\n".join(self._problems)) if self._problems else result_of()
        except Question as question:
            return self._asked(call, question)
        return self._line(call, result), "error" if result["isError"] else "ok"

    def _asked(self, call: Call, question: Question) -> tuple[bytes, str]:
        """Asks the user: by the result of the call, or by a request to the client of a legacy revision."""
        if call.revision.modern:
            return self._encoded(call, self._states().input_required(call, question)), "asked"
        if call.is_claimed:
            return b"", "asked"
        try:
            question_id = self.open_question(call, question)
        except CannotAsk as error:
            return self._line(call, error_result(str(error))), "error"
        call.context.writer.send(request_message(question_id, METHOD, question.params))
        return b"", "asked"

    def _states(self) -> SealedStates:
        with self._states_lock:
            if self._made_states is None:
                from mcp_protocol.calls.sealed_states import SealedStates  # loaded with the first question

                self._made_states = SealedStates()
            return self._made_states

    def _line(self, call: Call, result: Json) -> bytes:
        """The response line of a tool call; a result that is too long loses its images, or becomes an error."""
        line = self._encoded(call, result)
        n_bytes = len(line)
        max_bytes = self._max_result_bytes - (0 if call.task is None else TASK_BYTES)
        if len(line) > max_bytes:
            content = [block for block in result["content"] if block["type"] != "image"]
            line = self._encoded(call, {**result, "content": content})
        if len(line) > max_bytes:
            text = (
                f"The result has {n_bytes} bytes; VLLM_MAX_RESULT_BYTES allows {self._max_result_bytes}. "
                "Ask for less at once, for example with a smaller max_tokens or fewer items."
            )
            line = self._encoded(call, error_result(text))
        return line

    def _encoded(self, call: Call, result: Json) -> bytes:
        return encode(result_message(call.request_id, finished(result, call.revision, self._server_info)))

    def _respond_error(self, call: Call, error: ProtocolError, outcome: str) -> None:
        try:
            call.context.writer.send_error(error)
        except ReaderGone:
            self._hooks.wake()
        finally:
            call.mark_answered()
            self._hooks.on_call_end(call, outcome)

    def _respond(self, call: Call, line: bytes, outcome: str) -> None:
        try:
            call.context.writer.respond(line)
        finally:
            call.mark_answered()
            self._hooks.on_call_end(call, outcome)
