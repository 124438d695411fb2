"""Which connections may stay: who says nothing keeps nobody out, and no owner takes the room of another."""

from __future__ import annotations

import resource
from asyncio import WriteTransport

import pytest

from mcp_protocol.http.admission import (
    MAX_CONNECTIONS,
    MAX_UNAUTHENTICATED_PER_ADDRESS,
    OTHER_FILES,
    Admission,
    max_connections,
)

FAR = "198.51.100.7"


class Line(WriteTransport):
    """A connection that tells whether it was ended."""

    def __init__(self) -> None:
        self.ended = False

    def abort(self) -> None:
        """Ends it."""
        self.ended = True


def arrive(admission: Admission, n: int, address: str = "127.0.0.1") -> list[Line]:
    """So many newcomers from an address."""
    lines = [Line() for _ in range(n)]
    for line in lines:
        admission.arrived(line, address)
    return lines


def known(admission: Admission, n: int, owner: int) -> list[bool]:
    """Whether each of so many new connections of an owner is let in; one that is not leaves."""
    found = []
    for line in arrive(admission, n):
        found.append(admission.authenticate(line, owner))
        if not found[-1]:
            admission.left(line)
    return found


def test_oldest_newcomer_makes_room_for_the_next() -> None:
    admission = Admission(max_connections=40)
    lines = arrive(admission, 10)
    assert admission.authenticate(lines[0], 0)
    arrive(admission, 3)
    assert [line.ended for line in lines] == [False, True, True] + [False] * 7
    assert admission.n_unauthenticated == 10


@pytest.mark.parametrize("address", [FAR, f"::ffff:{FAR}", "2001:db8::1", "not an address at all"])
def test_address_has_few_newcomers_unless_it_is_this_machines(address: str) -> None:
    admission = Admission(max_connections=1000)
    lines = arrive(admission, MAX_UNAUTHENTICATED_PER_ADDRESS + 2, address)
    n_ended = 0 if address.startswith("not") else 2
    assert [line.ended for line in lines].count(True) == n_ended
    assert all(line.ended for line in lines[:n_ended])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.1.2.3", "fd00::5%eth0"])
def test_this_machine_and_named_proxies_are_not_counted_by_address(address: str) -> None:
    admission = Admission(proxies=("10.0.0.0/8", "fd00::5"), max_connections=1000)
    assert not any(line.ended for line in arrive(admission, 200, address))


def test_network_of_ipv6_counts_as_one_address() -> None:
    admission = Admission(max_connections=1000)
    lines = [line for number in range(50) for line in arrive(admission, 1, f"2001:db8::{number:x}")]
    assert [line.ended for line in lines].count(True) == 50 - MAX_UNAUTHENTICATED_PER_ADDRESS
    assert not arrive(admission, 1, "2001:db8:0:1::1")[0].ended


def test_connections_that_left_are_forgotten() -> None:
    admission = Admission(2, max_connections=40)
    for _ in range(10):
        lines = arrive(admission, 9, FAR)
        assert all(admission.authenticate(line, 1) for line in lines)
        for line in lines + lines:
            admission.left(line)
    assert admission.n_unauthenticated == 0
    assert all(known(admission, 15, 0))


def test_single_owner_has_all_the_room_but_that_of_newcomers() -> None:
    assert known(Admission(1, max_connections=40), 35, 0) == [True] * 30 + [False] * 5


@pytest.mark.parametrize("n_owners", [2, 3, 10])
def test_each_owner_has_a_share_that_nobody_else_takes(n_owners: int) -> None:
    admission = Admission(n_owners, max_connections=400)
    assert known(admission, 300, 0).count(True) == 150
    share = 150 // n_owners
    for owner in range(1, n_owners):
        assert known(admission, share + 5, owner) == [True] * share + [False] * 5


def test_connection_of_a_proxy_goes_from_owner_to_owner() -> None:
    admission = Admission(2, max_connections=40)
    (line,) = arrive(admission, 1)
    for owner in (0, 1, 1, 0) * 100:
        assert admission.authenticate(line, owner)
    admission.left(line)
    assert known(admission, 30, 1).count(True) == 15


def test_there_are_no_more_connections_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, expected in ((1024, 1024 - OTHER_FILES), (100, 64), (100_000, MAX_CONNECTIONS), (-1, MAX_CONNECTIONS)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limit=limit: (limit, limit))
        assert max_connections() == expected
