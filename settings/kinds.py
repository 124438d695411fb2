"""How a setting's text becomes a value: each kind knows what it allows, and refuses the rest with a ValueError."""

import os
import re
from collections.abc import Callable
from typing import Any

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """How a setting's text becomes a value; `allowed` completes the sentence "allowed: ...". Secrets are not shown.

    In paths, `$NAME` stands for a variable; it is replaced before `parse` gets the text.
    """

    allowed: str
    parse: Callable[[str], Any]
    secret: bool = False
    is_path: bool = False
    advice: Callable[[str], str] | None = None
    """What to say beside `allowed` of a text that is refused; "" for nothing."""


class Setting(msgspec.Struct, frozen=True):
    """What a field of a section is called outside, how it is read and what it means.

    `shown` is the default as the README shows it, where the value itself would not tell.
    """

    variable: str
    kind: Kind
    meaning: str
    shown: str | None = None


def whole(minimum: int, maximum: int | None = None, also: str = "") -> Kind:
    """Whole numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < minimum or (maximum is not None and value > maximum):
            raise ValueError(text)
        return value

    limit = f"a whole number from {minimum} to {maximum}" if maximum is not None else f"a whole number ≥ {minimum}"
    return Kind(limit + also, parse)


def number(minimum: float, maximum: float, exclusive_minimum: bool = False) -> Kind:
    """Finite numbers from `minimum` to `maximum`; comparisons with NaN are false, so NaN is refused."""

    def parse(text: str) -> float:
        value = float(text)
        if not (minimum < value <= maximum or (value == minimum and not exclusive_minimum)):
            raise ValueError(text)
        return value

    above = f"above {minimum:g} and up to" if exclusive_minimum else f"from {minimum:g} to"
    return Kind(f"a number {above} {maximum:g}", parse)


def choice(*names: str) -> Kind:
    """One of some names, in any case."""
    by_folded_name = {name.casefold(): name for name in names}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded_name:
            raise ValueError(text)
        return by_folded_name[text.casefold()]

    return Kind(", ".join(names), parse)


def _switch(text: str) -> bool:
    folded = text.casefold()
    if folded in ("1", "true", "yes", "on"):
        return True
    if folded in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _json_object(text: str) -> dict[str, Any]:
    value = msgspec.json.decode(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    """No name has a space in it, so spaces separate names as commas do."""
    return _texts(text) or tuple(name.strip("\"'") for name in text.replace(",", " ").split())


def _texts(text: str) -> tuple[str, ...]:
    """The texts of a JSON array; none where it is no such array."""
    if not text.startswith("["):  # so does the IPv6 address [::1]
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError:
        return ()


def _tokens(text: str) -> tuple[str, ...]:
    tokens = _texts(text) or _comma_separated(text)
    if not all(tokens) or not tokens or not all(33 <= ord(char) <= 126 for token in tokens for char in token):
        raise ValueError("a token has characters that a header cannot carry")
    return tokens


def some_of(*names: str) -> Kind:
    """One or several of some names, in any case and separated by commas; `all`, as nothing, stands for all of them."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(name.casefold() for name in _names(text))
        if not set(found) <= {*names, "all"}:
            raise ValueError(text)
        return () if "all" in found else found

    return Kind(f"all, or one or more of {', '.join(names)}, separated by commas", parse)


_TWO_FOLDERS = re.compile(r"\s[/~]")
_BETWEEN_FOLDERS = re.compile(rf"{os.pathsep}(?![\\/])|(?<!\A[A-Za-z])(?<![:;,\s][A-Za-z]){os.pathsep}")
"""The system's separator, but for the colon of Windows' drives."""


def _folders(text: str) -> tuple[str, ...]:
    """Folders between separators, or a JSON array of them.

    The system's separator always separates. A comma, a semicolon and a line's end do not where they belong to the name
    of a folder that is there; a space never does, so what looks like two folders with a space between is refused.
    """
    folders = list(_texts(text))
    for part in () if folders else _BETWEEN_FOLDERS.split(text):
        is_one = os.path.isdir(os.path.expanduser(part.strip()))
        pieces = [part.strip()] if is_one else _comma_separated(part.replace(";", ",").replace("\n", ","))
        if not is_one and any(map(_TWO_FOLDERS.search, pieces)):
            raise ValueError(text)
        folders += pieces
    found = tuple(map(_expanded, folders))
    if not found or not all(map(os.path.isabs, found)):
        raise ValueError(text)
    return found


def _expanded(path: str) -> str:
    """The path with `~` as the home folder it stands for, and one of Windows as what it means here.

    Raises: `ValueError` where no path can have this form, nobody has that home folder, or Windows' path means nothing.
    """
    found = os.path.expanduser(path) if not _is_of_windows(path) else _path_here(path)
    if "\0" in found or found.startswith("~"):
        raise ValueError(path)
    return found


def _is_of_windows(path: str) -> bool:
    if ":" not in path and "\\" not in path and not path.startswith("//"):
        return False
    from settings.windows_paths import is_windows_path  # only where it may be one

    return is_windows_path(path)


def _path_here(path: str) -> str:
    from settings.windows_paths import path_to_use

    found = path_to_use(path)
    if found is None:
        raise ValueError(path)
    return found


def _about_windows(text: str) -> str:
    if not any(map(_is_of_windows, text.split(","))):
        return ""
    return "There is nothing at this path of Windows on this machine; WSL has the drive C: at /mnt/c."


def _named_texts(text: str) -> dict[str, str]:
    if text.startswith("{"):
        found = _json_object(text)
    else:
        pairs = [pair.partition("=") for pair in text.replace(",", " ").split()]
        found = {name: path for name, _, path in pairs}
        if len(found) < len(pairs):
            raise ValueError(text)
    if not all(name and isinstance(path, str) and path for name, path in found.items()):
        raise ValueError(text)
    return found


def _file(text: str) -> str:
    if text.endswith(os.sep):
        raise ValueError(text)
    return _expanded(text)


def _search_path(text: str) -> str:
    return os.pathsep.join(map(os.path.expanduser, text.split(os.pathsep)))


def _model(text: str) -> str:
    """Services have names that begin with ~, as in ~maker/model, so only ~/ is the home folder."""
    return _expanded(text) if text == "~" or text.startswith("~" + os.sep) or _is_of_windows(text) else text


def _named_folders(text: str) -> dict[str, str]:
    return {name: _expanded(folder) for name, folder in _named_texts(text).items()}


def _networks(text: str) -> tuple[str, ...]:
    from ipaddress import ip_network  # only where such a setting is made

    return tuple(str(ip_network(name, strict=False)) for name in _names(text))


def _file_mode(text: str) -> str:
    value = int(text, 8)
    if value & 0o600 != 0o600 or value & ~0o666:
        raise ValueError(text)
    return f"{value:04o}"


def _web_server(text: str) -> str:
    from urllib.parse import urlsplit  # only where such a setting is made

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(text)
    if parts.query or parts.fragment or parts.port == 0 or any(c.isspace() for c in text):
        raise ValueError(text)
    return text.rstrip("/")


def _about_the_scheme(text: str) -> str:
    """For an address that is one but for its beginning."""
    is_address = "://" not in text and (":" in text or "." in text or text.startswith("localhost"))
    return "Begin it with http:// or https://." if is_address else ""


def _proxy(text: str) -> str:
    from urllib.parse import urlsplit  # only where such a setting is made

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(text)
    if parts.query or parts.fragment or parts.port == 0 or any(c.isspace() for c in text):
        raise ValueError(text)
    return text.rstrip("/")


def _named_servers(text: str) -> dict[str, str]:
    return {name: _web_server(url) for name, url in _named_texts(text).items()}


def auto_or(kind: Kind) -> Kind:
    """What `kind` allows, or the word auto, which stands for None."""
    return Kind(f"auto, or {kind.allowed}", lambda text: None if text.casefold() == "auto" else kind.parse(text))


def _top_k(text: str) -> int:
    value = int(text)
    if value != -1 and value < 1:
        raise ValueError(text)
    return value


TEXT = Kind("any text", str)
SWITCH = Kind("1 or 0", _switch)
JSON_OBJECT = Kind('a JSON object, for example {"key": 1}', _json_object)
NAMES = Kind("names separated by commas", _names)
TOKENS = Kind("visible ASCII characters, tokens separated by commas", _tokens, secret=True)
NETWORKS = Kind("IP addresses or networks separated by commas", _networks)
FOLDERS = Kind(
    f"absolute folders separated by '{os.pathsep}' or ',', or a JSON array of them",
    _folders,
    is_path=True,
    advice=_about_windows,
)
NAMED_FOLDERS = Kind(
    'name=folder pairs with different names, separated by commas or spaces, or a JSON object {"name": "folder"}',
    _named_folders,
    is_path=True,
)
NAMED_SERVERS = Kind(
    'name=URL pairs with different names, separated by commas or spaces, or a JSON object {"name": "URL"}',
    _named_servers,
)
FILE = Kind("a file's path", _file, is_path=True, advice=_about_windows)
FILE_MODE = Kind("rights in octal without execution, such as 0600, 0640 or 0644", _file_mode)
FOLDER = Kind("a folder's path", _expanded, is_path=True, advice=_about_windows)
SEARCH_PATH = Kind(f"one path or several, separated by '{os.pathsep}'", _search_path, is_path=True)
FILE_OR_FOLDER = Kind("a path", _expanded, is_path=True, advice=_about_windows)
MODEL = Kind("a name or a folder's path", _model, is_path=True, advice=_about_windows)
WEB_SERVER = Kind("an http or https URL without user name, query or fragment", _web_server, advice=_about_the_scheme)
PROXY = Kind("an http or https URL without a path, such as http://user:password@proxy:3128", _proxy, secret=True)
TOP_K = Kind("-1 (off) or a whole number ≥ 1", _top_k)
POSITIVE = whole(1)
