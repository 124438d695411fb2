"""How a setting's text becomes a value: each kind knows what it allows, and refuses the rest with a ValueError."""

import os
from collections.abc import Callable
from typing import Any

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """How a setting's text becomes a value; `allowed` completes the sentence "allowed: ...". Secrets are not shown."""

    allowed: str
    parse: Callable[[str], Any]
    secret: bool = False


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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _tokens(text: str) -> tuple[str, ...]:
    tokens = _names(text)
    if not tokens or not all(33 <= ord(char) <= 126 for token in tokens for char in token):
        raise ValueError("a token has characters that a header cannot carry")
    return tokens


def some_of(*names: str) -> Kind:
    """One or several of some names, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        found = _names(text)
        if not set(found) <= set(names):
            raise ValueError(text)
        return found

    return Kind(f"one or more of {', '.join(names)}, separated by commas", parse)


def _folders(text: str) -> tuple[str, ...]:
    folders = tuple(os.path.expanduser(folder) for folder in text.split(os.pathsep) if folder)
    if not all(os.path.isabs(folder) for folder in folders):
        raise ValueError(text)
    return folders


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
    if "\0" in text or text.endswith(os.sep):
        raise ValueError(text)
    return os.path.expanduser(text)


def _file_mode(text: str) -> str:
    value = int(text, 8)
    if value & 0o600 != 0o600 or value & ~0o666:
        raise ValueError(text)
    return f"{value:04o}"


def _folder(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)
    return os.path.expanduser(text)


def _web_server(text: str) -> str:
    from urllib.parse import urlsplit  # only where such a setting is made

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(text)
    if parts.query or parts.fragment or parts.port == 0 or any(c.isspace() for c in text):
        raise ValueError(text)
    return text.rstrip("/")


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
FOLDERS = Kind(f"absolute folders separated by '{os.pathsep}'", _folders)
NAMED_FOLDERS = Kind(
    'name=folder pairs with different names, separated by commas or spaces, or a JSON object {"name": "folder"}',
    _named_texts,
)
NAMED_SERVERS = Kind(
    'name=URL pairs with different names, separated by commas or spaces, or a JSON object {"name": "URL"}',
    _named_servers,
)
FILE = Kind("a file's path", _file)
FILE_MODE = Kind("rights in octal without execution, such as 0600, 0640 or 0644", _file_mode)
FOLDER = Kind("a folder's path", _folder)
WEB_SERVER = Kind("an http or https URL without user name, query or fragment", _web_server)
PROXY = Kind("an http or https URL without a path, such as http://user:password@proxy:3128", _proxy, secret=True)
TOP_K = Kind("-1 (off) or a whole number ≥ 1", _top_k)
POSITIVE = whole(1)
