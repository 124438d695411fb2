"""Who uses the engine when."""

import threading
from collections.abc import Callable

from engine.local.locks import FairLock, ReadWriteLock
from tests.waiting import wait_until

WAIT_S = 30.0


def started(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_threads_get_the_lock_in_the_order_they_asked() -> None:
    lock, order, threads = FairLock(), list[int](), []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(5):
            threads.append(started(lambda number=number: take(number)))  # type: ignore[misc]
            wait_until(lambda: len(lock._waiting) == len(threads))
    for thread in threads:
        thread.join(WAIT_S)
    assert order == [0, 1, 2, 3, 4]


def test_who_takes_the_lock_again_at_once_lets_others_in_between() -> None:
    lock, stop, turns = FairLock(), threading.Event(), list[int]()

    def steps() -> None:
        while not stop.is_set():
            with lock:
                pass

    thread = started(steps)
    for number in range(200):
        with lock:
            turns.append(number)
    stop.set()
    thread.join(WAIT_S)
    assert len(turns) == 200


def test_lock_is_free_after_an_error() -> None:
    lock = FairLock()
    for _ in range(2):
        try:
            with lock:
                raise ValueError
        except ValueError:
            pass


def test_many_use_it_at_a_time() -> None:
    use, inside = ReadWriteLock(), threading.Barrier(3)

    def work() -> None:
        with use.shared():
            inside.wait(WAIT_S)

    threads = [started(work) for _ in range(3)]
    for thread in threads:
        thread.join(WAIT_S)
    assert not inside.broken


def test_one_alone_waits_for_the_others_and_goes_before_later_ones() -> None:
    use, go_on, order = ReadWriteLock(), threading.Event(), list[str]()

    def first() -> None:
        with use.shared():
            assert go_on.wait(WAIT_S)
            order.append("first")

    def alone() -> None:
        with use.alone():
            order.append("alone")

    def later() -> None:
        with use.shared():
            order.append("later")

    threads = [started(first)]
    wait_until(lambda: use._n_users == 1)
    threads.append(started(alone))
    wait_until(lambda: use._n_waiting == 1)
    threads.append(started(later))
    go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert order == ["first", "alone", "later"]


def test_waiting_alone_ends_when_its_time_is_up_and_others_go_on() -> None:
    use = ReadWriteLock()
    with use.shared():
        assert not use.acquire(0.01)
        with use.shared():
            pass
    assert use.acquire(0.01)
    assert not use.acquire(0.01)
    use.release()
    with use.shared():
        pass
