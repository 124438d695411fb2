"""The budget of bytes: what is held, what is refused, and that all of it comes back."""

from __future__ import annotations

import threading

import pytest

from sandbox import budget as budgets
from sandbox.budget import ByteBudget, OverBudget, default_bytes

MIB = 1 << 20


def test_what_is_held_is_counted_until_it_is_released() -> None:
    budget = ByteBudget(100)
    holding = budget.hold(60)
    holding.add(30)
    assert (budget.held_bytes, holding.n_bytes) == (90, 90)
    holding.release()
    assert (budget.held_bytes, holding.n_bytes) == (0, 0)


def test_releasing_twice_gives_back_once() -> None:
    budget = ByteBudget(100)
    first, second = budget.hold(40), budget.hold(40)
    first.release()
    first.release()
    assert budget.held_bytes == 40
    second.release()


def test_over_the_budget_nothing_is_taken_and_what_was_held_stays() -> None:
    budget = ByteBudget(100)
    holding = budget.hold(80)
    with pytest.raises(OverBudget):
        holding.add(21)
    with pytest.raises(OverBudget):
        budget.hold(21)
    assert (budget.held_bytes, holding.n_bytes) == (80, 80)
    holding.add(20)
    holding.release()
    assert budget.held_bytes == 0


def test_a_part_counts_in_the_whole_and_leaves_room_for_others() -> None:
    budget = ByteBudget(100)
    messages = budget.part(4)
    held = messages.hold(25)
    assert budget.held_bytes == 25
    with pytest.raises(OverBudget):
        messages.hold(1)
    images = budget.hold(75)
    held.release()
    assert (messages.held_bytes, budget.held_bytes) == (0, 75)
    images.add(20)
    with pytest.raises(OverBudget):  # the part has room, the whole has not
        messages.hold(6)
    assert (messages.held_bytes, budget.held_bytes) == (0, 95)


def test_a_block_gives_back_what_it_held_whatever_ends_it() -> None:
    budget = ByteBudget(100)
    with pytest.raises(OverBudget), budget.hold(10) as holding:
        holding.add(91)
    assert budget.held_bytes == 0


def test_who_adds_after_the_release_takes_nothing() -> None:
    budget = ByteBudget(100)
    with budget.hold(10) as holding:
        pass
    holding.add(50)
    assert budget.held_bytes == 0


def test_what_is_too_large_for_ever_and_what_only_has_to_wait_are_told_apart() -> None:
    budget = ByteBudget(100 * MIB)
    with pytest.raises(OverBudget, match=r"about 200 MiB.*VLLM_MAX_HELD_BYTES allows 100 MiB.*Send less at once"):
        budget.hold(200 * MIB)
    budget.hold(60 * MIB)
    with pytest.raises(OverBudget, match=r"is busy.*about 50 MiB.*60 of the 100 MiB.*send it again"):
        budget.hold(50 * MIB)


def test_many_threads_never_hold_more_than_there_is_and_give_all_back() -> None:
    budget = ByteBudget(1_000)
    part = budget.part(2)
    most = []

    def use(source: ByteBudget) -> None:
        for _ in range(2_000):
            try:
                with source.hold(90):
                    most.append(budget.held_bytes)
            except OverBudget:
                continue

    threads = [threading.Thread(target=use, args=(source,)) for source in (budget, part) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 1_000
    assert (budget.held_bytes, part.held_bytes) == (0, 0)


@pytest.mark.parametrize(("memory_bytes", "expected"), [(1 << 40, 4 << 30), (8 << 30, 2 << 30), (512 << 20, 256 << 20)])
def test_the_default_is_a_share_of_the_memory_within_bounds(
    memory_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "memory_bytes", lambda: memory_bytes)
    assert default_bytes() == expected


def test_this_machine_tells_its_memory() -> None:
    assert budgets.MIN_BYTES <= default_bytes() <= budgets.MAX_BYTES
