"""`--print-config` and `--install`: the command line's way to the entry of a client."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from itertools import chain

from cli.clients.entry import Entry, this_server
from cli.clients.install import install as install_entry
from cli.clients.table import CLIENTS
from settings import rows
from settings.other_variables import misspelt

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variables(words: Sequence[str]) -> dict[str, str]:
    """The variables that `--env` gives as KEY=VALUE.

    Raises: `ValueError` for another form; the message does not hold the value, which may be a key.
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError("argument --env: it is KEY=VALUE, with a KEY of letters, digits and underscores")
        given[name] = value
    return given


def print_config(name: str, env: Mapping[str, str], environment: Mapping[str, str], *, by_uvx: bool) -> int:
    """Prints the entry for a client; on a terminal, also where it goes. Returns the exit status."""
    client, entry = CLIENTS[name], _entry(env, by_uvx)
    print(client.text(entry))
    if sys.stderr.isatty():
        places = (client.file(environment), client.place)
        print(f"It goes into {', or '.join(place for place in places if place)}.", file=sys.stderr)
    return 0


def install(
    name: str, env: Mapping[str, str], environment: Mapping[str, str], *, by_uvx: bool, assume_yes: bool
) -> int:
    """Installs the entry for a client; returns the exit status."""
    return install_entry(CLIENTS[name], _entry(env, by_uvx), environment, assume_yes=assume_yes)


def _entry(env: Mapping[str, str], by_uvx: bool) -> Entry:
    """The entry of this server, with a warning for each variable that looks like a misspelt setting."""
    for warning in chain(*misspelt(env, [row.variable for row in rows()])):
        print(warning, file=sys.stderr)
    entry = this_server(env, by_uvx=by_uvx)
    try:
        "".join((entry.command, *entry.args, *entry.env.values())).encode()
    except UnicodeEncodeError:
        sys.exit("The entry would hold a path or a value that is not valid Unicode, which no client can read.")
    return entry
