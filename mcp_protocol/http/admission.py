"""Which connections may stay: few that have shown no token yet, and a share for each owner of one.

A connection is a newcomer until a request on it has shown a token, or where none is asked for has passed the guard.
Where there are too many newcomers the oldest goes: whoever says nothing keeps nobody out.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Protocol

MAX_CONNECTIONS = 1_000
"""Connections at a time, as long as the process may open as many files."""
OTHER_FILES = 256
"""Open files that are left to everything else."""
MAX_NEWCOMERS_OF_ADDRESS = 32


class Closable(Protocol):
    """A connection as far as it counts here."""

    def abort(self) -> None:
        """Ends it at once."""


class Admission:
    """Counts the connections of one service; used on the event loop's thread alone.

    Arguments: how many owners of tokens there are; the addresses or networks of proxies, whose connections are not
    counted by address, as those from this machine are not: behind one address are many clients; how many connections
    there may be.
    """

    def __init__(
        self, n_owners: int = 1, proxies: tuple[str, ...] = (), max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies]
        self._max_newcomers = max(1, max_connections // 4)
        self._max_known = max(1, max_connections - self._max_newcomers)
        self._share = self._max_known if n_owners == 1 else max(1, self._max_known // (2 * n_owners))
        self._newcomers: dict[Closable, str] = {}
        self._of_address: dict[str, dict[Closable, None]] = {}
        self._owners: dict[Closable, int] = {}
        self._of_owner: Counter[int] = Counter()

    @property
    def n_newcomers(self) -> int:
        """How many connections have shown no token."""
        return len(self._newcomers)

    def arrived(self, connection: Closable, address: str) -> None:
        """Counts a newcomer; the oldest of its address, or of all, goes where there are too many."""
        counted = self._counted(address)
        own = self._of_address.setdefault(counted, {})
        if counted and len(own) >= MAX_NEWCOMERS_OF_ADDRESS:
            self._dismiss(next(iter(own)))
        elif len(self._newcomers) >= self._max_newcomers:
            self._dismiss(next(iter(self._newcomers)))
        self._newcomers[connection] = counted
        self._of_address.setdefault(counted, {})[connection] = None

    def is_known(self, connection: Closable, owner: int) -> bool:
        """Takes note of whose connection it is; False where that owner has too many.

        Half of all is for whoever comes first, the other half is kept in equal shares.
        """
        before = self._owners.get(connection)
        if before == owner:
            return True
        if self._of_owner[owner] >= self._share and len(self._owners) >= self._max_known // 2:
            return False
        if before is not None:
            self._of_owner[before] -= 1
        self._forget_newcomer(connection)
        self._owners[connection] = owner
        self._of_owner[owner] += 1
        return True

    def left(self, connection: Closable) -> None:
        """Forgets a connection that has ended."""
        self._forget_newcomer(connection)
        owner = self._owners.pop(connection, None)
        if owner is not None:
            self._of_owner[owner] -= 1

    def _dismiss(self, connection: Closable) -> None:
        self._forget_newcomer(connection)
        connection.abort()

    def _forget_newcomer(self, connection: Closable) -> None:
        counted = self._newcomers.pop(connection, None)
        if counted is None:
            return
        own = self._of_address[counted]
        own.pop(connection, None)
        if not own:
            del self._of_address[counted]

    def _counted(self, address: str) -> str:
        """What an address is counted as: itself, its network of 64 bits, or nothing where it is not counted."""
        if address in ("127.0.0.1", "::1"):
            return ""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip
        if ip.is_loopback or any(ip in proxy for proxy in self._proxies):
            return ""
        return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def most_connections() -> int:
    """How many connections there may be in this process, by the number of files that it may open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MAX_CONNECTIONS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(64, min(MAX_CONNECTIONS, limit - OTHER_FILES))
