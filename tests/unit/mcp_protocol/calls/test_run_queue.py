"""Who may begin beside others."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mcp_protocol.calls.run_queue import BYPASS_WORKERS, RunQueue
from mcp_protocol.calls.scheduling_policy import BYPASS_QUEUE, ORDINARY, SchedulingPolicy

EXCLUSIVE = SchedulingPolicy(exclusive=True)


@dataclass(eq=False)
class Thing:
    """An item with a name."""

    name: str
    policy: SchedulingPolicy
    is_claimed: bool = field(default=False)


def of(*keys: str, bypass_queue: bool = False) -> SchedulingPolicy:
    return SchedulingPolicy(frozenset(keys), bypass_queue=bypass_queue)


def lined_up(n_workers: int, *policies: SchedulingPolicy) -> tuple[RunQueue[Thing], list[Thing]]:
    """A line of things that are called a, b, c and so on."""
    run_queue: RunQueue[Thing] = RunQueue(n_workers)
    things = [Thing(chr(ord("a") + number), policy) for number, policy in enumerate(policies)]
    for thing in things:
        run_queue.add(thing)
    return run_queue, things


def begun(run_queue: RunQueue[Thing]) -> str:
    """The names of all that may begin now, which they do."""
    names = ""
    while (item := run_queue.start_next()) is not None:
        names += item.name
    return names


def test_single_worker_takes_them_as_they_come() -> None:
    run_queue, _ = lined_up(1, of("s"), EXCLUSIVE, BYPASS_QUEUE, of("s"))
    assert begun(run_queue) == "abcd"  # it asks for the next when one has ended
    assert run_queue.is_empty is False


def test_so_many_run_at_a_time() -> None:
    run_queue, things = lined_up(2, *[ORDINARY] * 4)
    assert begun(run_queue) == "ab"
    run_queue.end(things[1])
    assert begun(run_queue) == "c"


def test_common_key_means_one_after_another_and_others_overtake() -> None:
    run_queue, things = lined_up(8, of("s"), of("s"), of("t"), of("s"), ORDINARY)
    assert begun(run_queue) == "ace"
    run_queue.end(things[0])
    assert begun(run_queue) == "b"
    run_queue.end(things[1])
    assert begun(run_queue) == "d"


def test_two_keys_join_two_lines() -> None:
    run_queue, things = lined_up(8, of("s"), of("s", "copy"), of("copy"), of("t"))
    assert begun(run_queue) == "ad"
    run_queue.end(things[0])
    assert begun(run_queue) == "b"
    run_queue.end(things[1])
    assert begun(run_queue) == "c"


def test_what_is_at_once_runs_beside_all_workers_but_after_its_key() -> None:
    run_queue, things = lined_up(2, of("s"), ORDINARY, ORDINARY, BYPASS_QUEUE, of("s", bypass_queue=True))
    assert begun(run_queue) == "abd"
    run_queue.end(things[0])
    assert begun(run_queue) == "ce"


def test_what_is_at_once_has_a_limit_of_its_own() -> None:
    run_queue, things = lined_up(2, *[BYPASS_QUEUE] * (BYPASS_WORKERS + 1), ORDINARY)
    assert len(begun(run_queue)) == BYPASS_WORKERS + 1  # the ordinary one is the last of them
    run_queue.end(things[0])
    assert begun(run_queue) == "i"


def test_exclusive_one_waits_for_those_before_it_and_those_behind_it_wait() -> None:
    run_queue, things = lined_up(8, ORDINARY, ORDINARY, EXCLUSIVE, ORDINARY, BYPASS_QUEUE)
    assert begun(run_queue) == "abe"
    run_queue.end(things[0])
    assert begun(run_queue) == ""
    run_queue.end(things[1])
    assert begun(run_queue) == "c"
    run_queue.add(Thing("f", BYPASS_QUEUE))
    assert begun(run_queue) == "f"
    run_queue.end(things[2])
    assert begun(run_queue) == "d"


def test_exclusive_one_also_waits_for_one_that_waits_for_its_key() -> None:
    run_queue, things = lined_up(8, of("s"), of("s"), EXCLUSIVE)
    assert begun(run_queue) == "a"
    run_queue.end(things[0])
    assert begun(run_queue) == "b"
    run_queue.end(things[1])
    assert begun(run_queue) == "c"


def test_two_exclusive_ones_run_one_after_another() -> None:
    run_queue, things = lined_up(8, EXCLUSIVE, EXCLUSIVE)
    assert begun(run_queue) == "a"
    run_queue.end(things[0])
    assert begun(run_queue) == "b"


@pytest.mark.parametrize("policy", [ORDINARY, EXCLUSIVE, of("s"), BYPASS_QUEUE])
def test_claimed_ones_hold_up_nobody(policy: SchedulingPolicy) -> None:
    run_queue, things = lined_up(8, of("t"), of("t"), policy, of("s"), EXCLUSIVE)
    things[1].is_claimed = things[2].is_claimed = True
    assert begun(run_queue) == "ad"
    run_queue.end(things[0])
    run_queue.end(things[3])
    assert begun(run_queue) == "e"


def test_dropping_the_claimed_keeps_the_order_of_the_others() -> None:
    run_queue, things = lined_up(8, *[BYPASS_QUEUE] * 2, *[ORDINARY] * 3)
    things[1].is_claimed = things[3].is_claimed = True
    run_queue.drop_claimed()
    assert [thing.name for thing in run_queue] == ["a", "c", "e"]
    assert begun(run_queue) == "ace"


@pytest.mark.parametrize(("n_workers", "n_items", "n_threads"), [(1, 5, 1), (4, 3, 3), (4, 100, 4 + BYPASS_WORKERS)])
def test_no_more_threads_than_could_work(n_workers: int, n_items: int, n_threads: int) -> None:
    run_queue, _ = lined_up(n_workers, *[ORDINARY] * n_items)
    assert run_queue.n_useful_threads == n_threads
    assert run_queue.clear()
    assert run_queue.n_useful_threads == 0
