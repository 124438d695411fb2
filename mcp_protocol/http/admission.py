"""Limits the number of open connections: few unauthenticated ones, and a quota for each owner of a token.

A connection is authenticated once a request on it has passed access control. When there are too many unauthenticated
connections the oldest is closed, so that idle clients do not block others. uvicorn's `limit_concurrency` has one limit
for all clients.
"""

from __future__ import annotations

import ipaddress
import sys
from asyncio import WriteTransport
from collections import Counter

MAX_CONNECTIONS = 1_000
"""Open connections, if the process may open as many files."""
OTHER_FILES = 256
"""Open files reserved for everything else."""
MAX_UNAUTHENTICATED_PER_ADDRESS = 32


class Admission:
    """Counts the connections of one service; used only on the event loop.

    Arguments:
        n_owners: the number of tokens, 1 if there are none.
        proxies: addresses or networks of proxies. Their connections, and those from this machine, are not counted by
            address, because many clients share it.
        max_connections: connections in all.
    """

    def __init__(
        self, n_owners: int = 1, proxies: tuple[str, ...] = (), max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies]
        self._max_unauthenticated = max(1, max_connections // 4)
        self._max_authenticated = max(1, max_connections - self._max_unauthenticated)
        self._share = self._max_authenticated if n_owners == 1 else max(1, self._max_authenticated // (2 * n_owners))
        self._unauthenticated: dict[WriteTransport, str] = {}
        self._of_address: dict[str, dict[WriteTransport, None]] = {}
        self._owners: dict[WriteTransport, int] = {}
        self._of_owner: Counter[int] = Counter()

    @property
    def n_unauthenticated(self) -> int:
        """The number of unauthenticated connections."""
        return len(self._unauthenticated)

    def arrived(self, connection: WriteTransport, address: str) -> None:
        """Counts a new connection; closes the oldest of its address, or of all, if too many are unauthenticated."""
        counted = self._counted(address)
        own = self._of_address.setdefault(counted, {})
        if counted and len(own) >= MAX_UNAUTHENTICATED_PER_ADDRESS:
            self._close(next(iter(own)))
        elif len(self._unauthenticated) >= self._max_unauthenticated:
            self._close(next(iter(self._unauthenticated)))
        self._unauthenticated[connection] = counted
        self._of_address.setdefault(counted, {})[connection] = None

    def authenticate(self, connection: WriteTransport, owner: int) -> bool:
        """Counts a connection for its owner; False if the owner has too many.

        Half of all connections is first come, first served; the other half is shared equally between the owners.
        """
        before = self._owners.get(connection)
        if before == owner:
            return True
        if self._of_owner[owner] >= self._share and len(self._owners) >= self._max_authenticated // 2:
            return False
        if before is not None:
            self._of_owner[before] -= 1
        self._forget_unauthenticated(connection)
        self._owners[connection] = owner
        self._of_owner[owner] += 1
        return True

    def left(self, connection: WriteTransport) -> None:
        """Removes a closed connection."""
        self._forget_unauthenticated(connection)
        owner = self._owners.pop(connection, None)
        if owner is not None:
            self._of_owner[owner] -= 1

    def _close(self, connection: WriteTransport) -> None:
        self._forget_unauthenticated(connection)
        connection.abort()

    def _forget_unauthenticated(self, connection: WriteTransport) -> None:
        counted = self._unauthenticated.pop(connection, None)
        if counted is None:
            return
        own = self._of_address[counted]
        own.pop(connection, None)
        if not own:
            del self._of_address[counted]

    def _counted(self, address: str) -> str:
        """The address itself, the /64 network of an IPv6 address, or "" if it is not counted by address."""
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


def max_connections() -> int:
    """The limit on connections, from the number of files that the process may open."""
    if sys.platform == "win32":  # it has no such limit
        return MAX_CONNECTIONS
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(64, min(MAX_CONNECTIONS, limit - OTHER_FILES))
