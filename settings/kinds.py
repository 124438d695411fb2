"""The kinds of settings: how the text of a variable becomes a value. A kind raises `ValueError` for any other text."""

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_NAME = 256
"""Characters of a model's name in `VLLM_MODELS`."""


class Kind(msgspec.Struct, frozen=True):
    """How a setting's text becomes a value.

    Arguments:
        allowed: completes the sentence "allowed: ...".
        parse: turns the text into the value, or raises `ValueError`.
        secret: the text is not shown in messages.
        is_path: `$NAME` in the text stands for a variable, which is filled in before `parse` gets the text.
        advice: one more sentence about a rejected text; "" for none.
    """

    allowed: str
    parse: Callable[[str], Any]
    secret: bool = False
    is_path: bool = False
    advice: Callable[[str], str] | None = None


class Setting(msgspec.Struct, frozen=True):
    """One setting: the annotation of a field in a section.

    Arguments:
        variable: the name of the environment variable.
        kind: how its text is read.
        meaning: one sentence for the README and `--help`.
        shown: the default as the README shows it, where it is not the value itself.
    """

    variable: str
    kind: Kind
    meaning: str
    shown: str | None = None


def whole(minimum: int, maximum: int | None = None) -> Kind:
    """Whole numbers from `minimum` to `maximum`."""
    allowed = f"a whole number from {minimum} to {maximum}" if maximum is not None else f"a whole number ≥ {minimum}"
    value_type = Annotated[int, Meta(ge=minimum, le=maximum)]
    return Kind(allowed, lambda text: msgspec.convert(int(text), value_type))


def number(minimum: float, maximum: float) -> Kind:
    """Finite numbers from `minimum` to `maximum`."""
    value_type = Annotated[float, Meta(ge=minimum, le=maximum)]
    return Kind(f"a number from {minimum:g} to {maximum:g}", lambda text: msgspec.convert(float(text), value_type))


def positive(maximum: float) -> Kind:
    """Numbers above 0 and up to `maximum`."""
    value_type = Annotated[float, Meta(gt=0, le=maximum)]
    return Kind(f"a number above 0 and up to {maximum:g}", lambda text: msgspec.convert(float(text), value_type))


def choice(*names: str) -> Kind:
    """One of some names, in any case."""
    by_folded_name = {name.casefold(): name for name in names}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded_name:
            raise ValueError(text)
        return by_folded_name[text.casefold()]

    return Kind(", ".join(names), parse)


def some_of(*names: str) -> Kind:
    """One or several of some names, in any case; `all` stands for every one of them, as an empty tuple."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.casefold() for name in _names(text))
        if not set(chosen) <= {*names, "all"}:
            raise ValueError(text)
        return () if "all" in chosen else chosen

    return Kind(f"all, or one or more of {', '.join(names)}, separated by commas", parse)


def auto_or(kind: Kind) -> Kind:
    """What `kind` allows, or the word auto, which stands for None."""
    return Kind(f"auto, or {kind.allowed}", lambda text: None if text.casefold() == "auto" else kind.parse(text))


def _switch(text: str) -> bool:
    folded = text.casefold()
    if folded in ("1", "true", "yes", "on"):
        return True
    if folded in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def switch_or(word: str) -> Kind:
    """What SWITCH allows, or a word."""
    return Kind(f"1, 0 or {word}", lambda text: word if text.casefold() == word else _switch(text))


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    """Names do not contain spaces, so spaces separate them as commas do."""
    return _json_texts(text) or tuple(name.strip("\"'") for name in text.replace(",", " ").split())


def _json_texts(text: str) -> tuple[str, ...]:
    """The texts of a JSON array; () for any other text, such as the IPv6 address [::1]."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except ValueError:
        return ()


def _tokens(text: str) -> tuple[str, ...]:
    tokens = _json_texts(text) or _comma_separated(text)
    if not all(tokens) or not tokens or not all(33 <= ord(char) <= 126 for token in tokens for char in token):
        raise ValueError("a token has characters that a header cannot carry")
    return tokens


_TWO_FOLDERS = re.compile(r"\s[/~]")
_BETWEEN_FOLDERS = re.compile(rf"{os.pathsep}(?![\\/])|(?<!\A[A-Za-z])(?<![:;,\s][A-Za-z]){os.pathsep}")
"""The system's separator; the colon after a Windows drive letter is no separator."""


def _folders(text: str) -> tuple[str, ...]:
    """Folders between separators, or a JSON array of them.

    The system's separator always separates. A comma, a semicolon and a line end separate too, unless they belong to the
    name of an existing folder. A space does not separate: text that looks like two folders with a space between them is
    rejected.
    """
    folders = list(_json_texts(text))
    for part in () if folders else _BETWEEN_FOLDERS.split(text):
        is_one = os.path.isdir(os.path.expanduser(part.strip()))
        pieces = [part.strip()] if is_one else _comma_separated(part.replace(";", ",").replace("\n", ","))
        if not is_one and any(map(_TWO_FOLDERS.search, pieces)):
            raise ValueError(text)
        folders += pieces
    paths = tuple(map(_path, folders))
    if not paths or not all(map(os.path.isabs, paths)):
        raise ValueError(text)
    return paths


def _path(text: str) -> str:
    """The path with `~` as the home folder; a Windows path as its counterpart on this machine. Raises `ValueError` for
    a NUL character, the home folder of an unknown user, or a Windows path without counterpart."""
    path: str | None = os.path.expanduser(text)
    if _is_windows(text):
        from settings.windows_paths import path_to_use  # imported only for Windows paths

        path = path_to_use(text)
    if path is None or "\0" in path or path.startswith("~"):
        raise ValueError(text)
    return path


def _is_windows(path: str) -> bool:
    if ":" not in path and "\\" not in path and not path.startswith("//"):
        return False
    from settings.windows_paths import is_foreign  # imported only for paths that may be Windows paths

    return is_foreign(path)


def _windows_advice(text: str) -> str:
    if not any(map(_is_windows, text.split(","))):
        return ""
    return "This Windows path does not exist on this machine; WSL has the drive C: at /mnt/c."


def named_texts(text: str) -> dict[str, str]:
    """name=value pairs, or a JSON object of texts."""
    if text.startswith("{"):
        values = msgspec.json.decode(text, type=dict[str, str])
    else:
        pairs = [pair.partition("=") for pair in text.replace(",", " ").split()]
        values = {name: value for name, _, value in pairs}
        if len(values) < len(pairs):
            raise ValueError(text)
    if not all(name and value for name, value in values.items()):
        raise ValueError(text)
    return values


class ModelOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One model of `VLLM_MODELS`: its name or folder, and what differs from the settings of the default model.

    The fields are named as those of `EngineSettings`; unset ones have the values of the settings.
    """

    model: str
    dtype: Literal["auto", "float16", "bfloat16", "float32"] | UnsetType = UNSET
    max_model_len: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    tensor_parallel_size: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    cpu_kvcache_space_gib: Annotated[float, Meta(gt=0, le=4_096)] | UnsetType = UNSET
    cpu_int8: bool | UnsetType = UNSET
    compile: Literal["off", "auto"] | UnsetType = UNSET
    max_images_per_prompt: Annotated[int, Meta(ge=0, le=64)] | UnsetType = UNSET
    lora_modules: dict[str, str] | UnsetType = UNSET
    extra_engine_args: dict[str, Any] | UnsetType = UNSET
    tool_parser: str | UnsetType = UNSET
    reasoning_parser: str | UnsetType = UNSET


def _named_models(text: str) -> dict[str, ModelOptions]:
    found = msgspec.json.decode(text, type=dict[str, str | ModelOptions]) if text.startswith("{") else named_texts(text)
    options = {name: ModelOptions(value) if isinstance(value, str) else value for name, value in found.items()}
    if not all(name.strip() and len(name) <= MAX_NAME and each.model for name, each in options.items()):
        raise ValueError(text)
    return {name: msgspec.structs.replace(each, model=_model(each.model)) for name, each in options.items()}


def _file(text: str) -> str:
    if text.endswith(("/", os.sep)):
        raise ValueError(text)
    return _path(text)


def _search_path(text: str) -> str:
    return os.pathsep.join(map(os.path.expanduser, text.split(os.pathsep)))


def _model(text: str) -> str:
    """Only `~/` is the home folder: model names of some services begin with ~, as in ~maker/model."""
    return _path(text) if text == "~" or text.startswith(("~/", "~" + os.sep)) or _is_windows(text) else text


def _networks(text: str) -> tuple[str, ...]:
    from ipaddress import ip_network  # imported only where the setting is set

    return tuple(str(ip_network(name, strict=False)) for name in _names(text))


def _file_mode(text: str) -> str:
    value = int(text, 8)
    if value & 0o600 != 0o600 or value & ~0o666:
        raise ValueError(text)
    return f"{value:04o}"


def _url(text: str, is_proxy: bool = False) -> str:
    """An http or https URL: of a server without user name, or of a proxy without path."""
    from urllib.parse import urlsplit  # imported only where such a setting is set

    parts = urlsplit(text)
    has_extra = parts.path not in ("", "/") if is_proxy else "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or has_extra:
        raise ValueError(text)
    if parts.query or parts.fragment or parts.port == 0 or any(c.isspace() for c in text):
        raise ValueError(text)
    return text.rstrip("/")


def _scheme_advice(text: str) -> str:
    """Advice for an address that lacks only its scheme."""
    is_address = "://" not in text and (":" in text or "." in text or text.startswith("localhost"))
    return "Begin it with http:// or https://." if is_address else ""


def _top_k(text: str) -> int:
    value = int(text)
    if value != -1 and value < 1:
        raise ValueError(text)
    return value


def _named(value: str, parse: Callable[[str], str], is_path: bool = False) -> Kind:
    """Values of one kind, each with a name."""
    example = f'{{"name": "{value}"}}'
    return Kind(
        f"name={value} pairs with different names, separated by commas or spaces, or a JSON object {example}",
        lambda text: {name: parse(item) for name, item in named_texts(text).items()},
        is_path=is_path,
    )


TEXT = Kind("any text", str)
SWITCH = Kind("1 or 0", _switch)
JSON_OBJECT = Kind('a JSON object, for example {"key": 1}', lambda text: msgspec.json.decode(text, type=dict[str, Any]))
NAMES = Kind("names separated by commas", _names)
WORDS = Kind("words separated by commas", lambda text: tuple(map(str.casefold, _names(text))))
TOKENS = Kind("visible ASCII characters, tokens separated by commas", _tokens, secret=True)
NETWORKS = Kind("IP addresses or networks separated by commas", _networks)
FOLDERS = Kind(
    f"absolute folders separated by '{os.pathsep}' or ',', or a JSON array of them",
    _folders,
    is_path=True,
    advice=_windows_advice,
)
NAMED_FOLDERS = _named("folder", _path, is_path=True)
NAMED_MODELS = Kind(
    "name=model pairs with different names, separated by commas or spaces, or a JSON object such as "
    '{"small": "/models/small", "large": {"model": "org/large", "dtype": "bfloat16"}}',
    _named_models,
    is_path=True,
    advice=_windows_advice,
)
NAMED_SERVERS = _named("URL", _url)
FILE = Kind("a file's path", _file, is_path=True, advice=_windows_advice)
FILE_MODE = Kind("permissions in octal without execution, such as 0600, 0640 or 0644", _file_mode)
FOLDER = Kind("a folder's path", _path, is_path=True, advice=_windows_advice)
SEARCH_PATH = Kind(f"one path or several, separated by '{os.pathsep}'", _search_path, is_path=True)
FILE_OR_FOLDER = Kind("a path", _path, is_path=True, advice=_windows_advice)
MODEL = Kind("a name or a folder's path", _model, is_path=True, advice=_windows_advice)
WEB_SERVER = Kind("an http or https URL without user name, query or fragment", _url, advice=_scheme_advice)
PROXY = Kind(
    "an http or https URL without a path, such as http://user:password@proxy:3128",
    lambda text: _url(text, is_proxy=True),
    secret=True,
)
TOP_K = Kind("-1 (off) or a whole number ≥ 1", _top_k)
POSITIVE = whole(1)
