from __future__ import annotations

import threading
from typing import Any

import pytest

from mcp_protocol.calls.call import Call
from mcp_protocol.versions import LOG_LEVELS
from tests.unit.mcp_protocol.host import make_context


def make_call(sent: list[Any], **options: Any) -> Call:
    """A call that sends into a list."""
    names = {"revision", "progress_token", "log_level"} & options.keys()
    return Call(1, "tool", {}, make_context(sent, **{name: options.pop(name) for name in names}), **options)


def test_only_one_of_many_threads_may_answer() -> None:
    call = make_call([])
    claims: list[bool] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        barrier.wait()
        claims.append(call.claim_response())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == [False] * 7 + [True]


def test_work_should_stop_after_an_answer_and_after_a_stop() -> None:
    answered, stopped = make_call([]), make_call([])
    assert not answered.cancellation.is_set()
    answered.claim_response()
    stopped.cancellation.set()
    assert answered.cancellation.is_set()
    assert stopped.cancellation.is_set()
    assert not stopped.is_claimed


def test_no_timeout_is_no_deadline() -> None:
    assert make_call([]).deadline_s is None


def test_progress_only_grows_and_ends_with_the_answer() -> None:
    sent: list[Any] = []
    call = make_call(sent, progress_token=0)
    for figure in (1, 1, 0.5, 2):
        call.progress(figure, 10)
    call.claim_response()
    call.progress(3, 10)
    assert [message["params"]["progress"] for message in sent] == [1, 2]
    assert "message" not in sent[0]["params"]


def test_progress_without_a_total_has_none() -> None:
    sent: list[Any] = []
    make_call(sent, progress_token="t").progress(1, None, "working")
    assert sent[0]["params"] == {"progressToken": "t", "progress": 1, "message": "working"}


def test_phases_move_progress_by_less_than_one_step() -> None:
    sent: list[Any] = []
    call = make_call(sent, progress_token="t")
    call.enter_phase("importing vLLM")
    call.enter_phase("loading weights")
    call.enter_phase(None)
    call.progress(1, 10)
    figures = [message["params"]["progress"] for message in sent]
    assert figures == sorted(set(figures))
    assert figures[-1] == 1
    assert call.phase is None


def test_only_a_phase_that_changes_is_told_to_the_server() -> None:
    told: list[None] = []
    call = make_call([], on_phase_change=lambda: told.append(None))
    counts = []
    for phase in (None, "loading weights", "loading weights", None, None):
        call.enter_phase(phase)
        counts.append(len(told))
    assert counts == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("threshold", LOG_LEVELS)
def test_log_messages_reach_their_threshold(threshold: str) -> None:
    sent: list[Any] = []
    call = make_call(sent, log_level=threshold)
    for level in LOG_LEVELS:
        call.log(level, level)
    assert [message["params"]["data"] for message in sent] == list(LOG_LEVELS[LOG_LEVELS.index(threshold) :])


def test_no_log_messages_unless_asked_for_or_after_the_answer() -> None:
    sent: list[Any] = []
    make_call(sent).log("emergency", "unasked")
    call = make_call(sent, log_level="debug")
    call.claim_response()
    call.log("emergency", "late")
    assert sent == []
