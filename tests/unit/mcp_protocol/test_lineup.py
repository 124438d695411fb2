"""Who may begin beside others."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mcp_protocol.lineup import AT_ONCE_WORKERS, Lineup
from mcp_protocol.turn import AT_ONCE, ORDINARY, Turn

EXCLUSIVE = Turn(exclusive=True)


@dataclass(eq=False)
class Thing:
    """An item with a name."""

    name: str
    turn: Turn
    claimed: bool = field(default=False)


def of(*keys: str, at_once: bool = False) -> Turn:
    return Turn(frozenset(keys), at_once=at_once)


def lined_up(n_workers: int, *turns: Turn) -> tuple[Lineup[Thing], list[Thing]]:
    """A line of things that are called a, b, c and so on."""
    lineup: Lineup[Thing] = Lineup(n_workers)
    things = [Thing(chr(ord("a") + number), turn) for number, turn in enumerate(turns)]
    for thing in things:
        lineup.add(thing)
    return lineup, things


def begun(lineup: Lineup[Thing]) -> str:
    """The names of all that may begin now, which they do."""
    names = ""
    while (item := lineup.begin_next()) is not None:
        names += item.name
    return names


def test_single_worker_takes_them_as_they_come() -> None:
    lineup, _ = lined_up(1, of("s"), EXCLUSIVE, AT_ONCE, of("s"))
    assert begun(lineup) == "abcd"  # it asks for the next when one has ended
    assert lineup.is_empty is False


def test_so_many_run_at_a_time() -> None:
    lineup, things = lined_up(2, *[ORDINARY] * 4)
    assert begun(lineup) == "ab"
    lineup.end(things[1])
    assert begun(lineup) == "c"


def test_common_key_means_one_after_another_and_others_overtake() -> None:
    lineup, things = lined_up(8, of("s"), of("s"), of("t"), of("s"), ORDINARY)
    assert begun(lineup) == "ace"
    lineup.end(things[0])
    assert begun(lineup) == "b"
    lineup.end(things[1])
    assert begun(lineup) == "d"


def test_two_keys_join_two_lines() -> None:
    lineup, things = lined_up(8, of("s"), of("s", "copy"), of("copy"), of("t"))
    assert begun(lineup) == "ad"
    lineup.end(things[0])
    assert begun(lineup) == "b"
    lineup.end(things[1])
    assert begun(lineup) == "c"


def test_what_is_at_once_runs_beside_all_workers_but_after_its_key() -> None:
    lineup, things = lined_up(2, of("s"), ORDINARY, ORDINARY, AT_ONCE, of("s", at_once=True))
    assert begun(lineup) == "abd"
    lineup.end(things[0])
    assert begun(lineup) == "ce"


def test_what_is_at_once_has_a_limit_of_its_own() -> None:
    lineup, things = lined_up(2, *[AT_ONCE] * (AT_ONCE_WORKERS + 1), ORDINARY)
    assert len(begun(lineup)) == AT_ONCE_WORKERS + 1  # the ordinary one is the last of them
    lineup.end(things[0])
    assert begun(lineup) == "i"


def test_exclusive_one_waits_for_those_before_it_and_those_behind_it_wait() -> None:
    lineup, things = lined_up(8, ORDINARY, ORDINARY, EXCLUSIVE, ORDINARY, AT_ONCE)
    assert begun(lineup) == "abe"
    lineup.end(things[0])
    assert begun(lineup) == ""
    lineup.end(things[1])
    assert begun(lineup) == "c"
    lineup.add(Thing("f", AT_ONCE))
    assert begun(lineup) == "f"
    lineup.end(things[2])
    assert begun(lineup) == "d"


def test_exclusive_one_also_waits_for_one_that_waits_for_its_key() -> None:
    lineup, things = lined_up(8, of("s"), of("s"), EXCLUSIVE)
    assert begun(lineup) == "a"
    lineup.end(things[0])
    assert begun(lineup) == "b"
    lineup.end(things[1])
    assert begun(lineup) == "c"


def test_two_exclusive_ones_run_one_after_another() -> None:
    lineup, things = lined_up(8, EXCLUSIVE, EXCLUSIVE)
    assert begun(lineup) == "a"
    lineup.end(things[0])
    assert begun(lineup) == "b"


@pytest.mark.parametrize("turn", [ORDINARY, EXCLUSIVE, of("s"), AT_ONCE])
def test_claimed_ones_hold_up_nobody(turn: Turn) -> None:
    lineup, things = lined_up(8, of("t"), of("t"), turn, of("s"), EXCLUSIVE)
    things[1].claimed = things[2].claimed = True
    assert begun(lineup) == "ad"
    lineup.end(things[0])
    lineup.end(things[3])
    assert begun(lineup) == "e"


def test_dropping_the_claimed_keeps_the_order_of_the_others() -> None:
    lineup, things = lined_up(8, *[AT_ONCE] * 2, *[ORDINARY] * 3)
    things[1].claimed = things[3].claimed = True
    lineup.drop_claimed()
    assert [thing.name for thing in lineup] == ["a", "c", "e"]
    assert begun(lineup) == "ace"


@pytest.mark.parametrize(("n_workers", "n_items", "n_threads"), [(1, 5, 1), (4, 3, 3), (4, 100, 4 + AT_ONCE_WORKERS)])
def test_no_more_threads_than_could_work(n_workers: int, n_items: int, n_threads: int) -> None:
    lineup, _ = lined_up(n_workers, *[ORDINARY] * n_items)
    assert lineup.n_useful_threads == n_threads
    assert lineup.clear()
    assert lineup.n_useful_threads == 0
