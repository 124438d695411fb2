"""Every setting of the server: its name, default, range and meaning. Nothing else reads the environment.

Each package gets its own section, a frozen Struct. A wrong value does not stop the server: the default is used instead,
and `Settings.problems` gets a sentence, which every tool call returns until the setting is corrected. An empty value
counts as not set, since some hosts pass it for "nothing".
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from settings import placeholders, working_folder
from settings.engine import MAX_IDLE_TIMEOUT_S, EngineSettings, SamplingSettings, SessionSettings
from settings.installation import (
    COMMAND,
    DEMO_MODEL,
    ROOT,
    in_clone,
    is_clone,
    missing_media,
    missing_vllm,
    program,
    repair_vllm,
)
from settings.kinds import FILE, FILE_OR_FOLDER, FOLDER, NAMED_FOLDERS, Kind, Setting
from settings.media import MediaSettings
from settings.omni import OmniSettings
from settings.other_variables import FORMER, former_settings, misspelt
from settings.server import LOG_LEVELS, TRANSPORTS, HttpSettings, ServerSettings
from settings.services import NetworkSettings, ProviderSettings
from settings.tool_selection import unknown_words

if TYPE_CHECKING:
    from settings.providers import RemoteProvider

__all__ = [
    "COMMAND",
    "DEMO_MODEL",
    "LOG_LEVELS",
    "MAX_IDLE_TIMEOUT_S",
    "ROOT",
    "SECTIONS",
    "TRANSPORTS",
    "EngineSettings",
    "HttpSettings",
    "MediaSettings",
    "NetworkSettings",
    "OmniSettings",
    "ProviderSettings",
    "Row",
    "SamplingSettings",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "in_clone",
    "is_clone",
    "missing_media",
    "missing_vllm",
    "program",
    "read",
    "repair_vllm",
    "rows",
]

SERVER_NAME = "vllm-mcp-server"
SERVER_TITLE = "vLLM"
SERVER_DESCRIPTION = (
    "Chat with a vision-language model in a vLLM engine on this machine; images, video and speech by vLLM-Omni servers."
)
SERVER_VERSION = "0.1.0"

SECTIONS: dict[str, type[Any]] = {
    "server": ServerSettings,
    "http": HttpSettings,
    "engine": EngineSettings,
    "sampling": SamplingSettings,
    "sessions": SessionSettings,
    "media": MediaSettings,
    "omni": OmniSettings,
    "providers": ProviderSettings,
    "network": NetworkSettings,
}
PATHS: tuple[Kind, ...] = (FILE, FOLDER, FILE_OR_FOLDER)
"""Kinds whose values are paths."""
HUGGING_FACE_TOKENS = ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN")


MAX_SHOWN_MODELS, MAX_SHOWN_NAME = 20, 60
"""Models that the instructions name, and the characters of each name."""


class Settings(msgspec.Struct, frozen=True):
    """All sections.

    Arguments:
        more_providers: the providers of `VLLM_CONFIG_FILE`.
        from_env_file: the variables that `VLLM_ENV_FILE` adds; libraries may read some of them.
        library_paths: variables of libraries that hold relative paths, with absolute paths.
        problems: a sentence for each value that cannot be used.
        warnings: a sentence for each variable that is likely a mistake.
    """

    server: ServerSettings
    http: HttpSettings
    engine: EngineSettings
    sampling: SamplingSettings
    sessions: SessionSettings
    media: MediaSettings
    omni: OmniSettings
    providers: ProviderSettings
    network: NetworkSettings
    more_providers: "tuple[RemoteProvider, ...]" = ()
    from_env_file: dict[str, str] = {}
    library_paths: dict[str, str] = {}
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def instructions(self) -> str:
        """The server's instructions for the host's model: about the tools on offer, and the models to choose from."""
        default, *others = self.engine.by_name()
        if not others:
            return self.server.instructions
        shown = others if self.engine.is_bundled and self.engine.base_url is not None else [default, *others]
        names = ", ".join(name[:MAX_SHOWN_NAME] for name in shown[:MAX_SHOWN_MODELS])
        more = " and others" if len(shown) > MAX_SHOWN_MODELS else ""
        return f"{self.server.instructions} The argument model selects a model: {names}{more}."

    def __repr__(self) -> str:
        """Shows no values: some are keys."""
        return f"Settings(problems={self.problems!r})"


class Row(msgspec.Struct, frozen=True):
    """One line of the settings table."""

    section: str
    variable: str
    default: str
    allowed: str
    meaning: str


ENGINE_DIR = "VLLM_ENGINE_DIR"
"""Names the environment in which an installed server runs; `cli.engine_environment` reads it before the settings."""
NOT_LISTED = {*working_folder.LIBRARY_PATHS, "VLLM_MAX_IMAGE_PIXELS", ENGINE_DIR}
"""Variables that belong to libraries or to vLLM, or that are read before the settings; this server honours them."""


def rows() -> Iterator[Row]:
    """The settings in their order, for the documents and `--help`; without variables that belong to others."""
    for section, cls in SECTIONS.items():
        defaults = cls()
        for name, entry in _entries(cls):
            if entry.variable in NOT_LISTED:
                continue
            default = entry.shown if entry.shown is not None else _shown(getattr(defaults, name))
            yield Row(section, entry.variable, default, entry.kind.allowed, entry.meaning)


def _entries(cls: type[Any]) -> Iterator[tuple[str, Setting]]:
    """The fields that are settings, each with its name."""
    for name, annotation in cls.__annotations__.items():
        for entry in getattr(annotation, "__metadata__", ()):
            yield name, entry


def _shown(value: Any) -> str:
    if value is None or value in ((), {}):
        return "none"
    return str(int(value)) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def read(environment: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from environment variables; `overrides` (from the command line) win."""
    problems: list[str] = []
    values = {**environment, **(overrides or {})}
    added: dict[str, str] = {}
    if path := _path_of_env_file(values):
        from settings.env_file import added_variables  # imported only if there is such a file

        added = added_variables(path, values, problems)
        values |= added
    library_paths = working_folder.library_paths(values)
    values |= library_paths
    aliases = _aliases(values)
    sections = {name: cls(**_section_values(cls, values, aliases, problems)) for name, cls in SECTIONS.items()}
    more_providers: tuple[RemoteProvider, ...] = ()
    if (path := sections["providers"].config_file) is not None:
        from settings.providers import read_config_file  # imported only if there is such a file

        more_providers = read_config_file(path, values, problems)
    if sections["http"].transport != "stdio" and sections["media"].allowed_dirs is None:
        sections["media"] = msgspec.structs.replace(sections["media"], allowed_dirs=())
    if not sections["http"].tokens and placeholders.cleaned(values.get("VLLM_HTTP_TOKENS", "")):
        import secrets

        # Unusable tokens must not open the server to everyone: a random token locks it until they are corrected.
        sections["http"] = msgspec.structs.replace(sections["http"], tokens=(secrets.token_hex(32),))
    if not sections["server"].offered_tools:
        advice = " ".join(unknown_words(sections["server"].tools))
        problems.append(f"The setting VLLM_TOOLS leaves no tool on offer. {advice}".rstrip())
        sections["server"] = msgspec.structs.replace(sections["server"], toolsets=(), tools=())
    certain, likely = misspelt(values, [entry.variable for cls in SECTIONS.values() for _, entry in _entries(cls)])
    return Settings(
        **sections,
        more_providers=more_providers,
        from_env_file=added,
        library_paths=library_paths,
        problems=(*problems, *certain),
        warnings=(
            *former_settings(values),
            *likely,
            *_missing_folders(sections["media"]),
            *unknown_words(sections["server"].tools),
        ),
    )


def initialize(environment: MutableMapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Reads the settings of this process once, prepares the environment for libraries, and leaves the working folder.

    The variables of this server are removed, so that neither vLLM nor a child process gets a key or a value that means
    something else there. `/proc/PID/environ` of this process still shows them: that is its environment at the start.
    """
    settings = read(environment, overrides)
    environment.update(settings.from_env_file | settings.library_paths)
    own = {entry.variable for cls in SECTIONS.values() for _, entry in _entries(cls)}
    keys = {provider.key_setting for provider in settings.more_providers}
    for name in (own | keys | FORMER.keys() | {ENGINE_DIR}) - {*working_folder.LIBRARY_PATHS, *HUGGING_FACE_TOKENS}:
        environment.pop(name, None)
    working_folder.leave()
    return settings


def _missing_folders(media: MediaSettings) -> Iterator[str]:
    """A sentence for each allowed folder that does not exist."""
    for folder in media.allowed_dirs or ():
        if not os.path.isdir(folder):
            yield f"VLLM_ALLOWED_MEDIA_DIRS names {folder}, which does not exist."


def _path_of_env_file(values: Mapping[str, str]) -> str:
    """The file with more settings; "" if none is named, or by an unusable path, which is reported with the others."""
    path = placeholders.with_variables(placeholders.cleaned(values.get("VLLM_ENV_FILE", "")), values)
    try:
        return FILE.parse(path) if path and not placeholders.unfilled_in_path(path) else ""
    except ValueError:
        return ""


def _aliases(values: dict[str, str]) -> dict[str, str]:
    """Fills in two settings from other variables of Hugging Face, unless they are set themselves. Returns, for
    messages, the variable that each value is from."""
    aliases = (
        ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN", ()),
        ("HF_HUB_CACHE", "HF_HOME", ("hub",)),
        ("HF_HUB_CACHE", "XDG_CACHE_HOME", ("huggingface", "hub")),
    )
    used: dict[str, str] = {}
    for variable, alias, below in aliases:
        value = placeholders.cleaned(values.get(alias, ""))
        if value and not placeholders.cleaned(values.get(variable, "")):
            values[variable] = os.path.join(value, *below)
            used[variable] = alias
    return used


def _section_values(
    cls: type[Any], values: Mapping[str, str], aliases: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, entry in _entries(cls):
        text = placeholders.cleaned(values.get(entry.variable, ""))
        if not text:
            continue
        variable = aliases.get(entry.variable, entry.variable)
        if entry.kind.is_path:
            text = placeholders.with_variables(text, values)
        placeholder = placeholders.unfilled_in_path(text) if entry.kind.is_path else placeholders.unfilled(text)
        if placeholder is not None:
            problems.append(f"The setting {variable} holds {_quoted(placeholder)}. {placeholders.ADVICE}")
            continue
        try:
            parsed[name] = _with_absolute_paths(entry, entry.kind.parse(text))
        except FileNotFoundError as error:
            problems.append(f"The setting {variable} is a relative path, and {error}; give an absolute path.")
        except (ValueError, OverflowError):
            shown = "not shown" if entry.kind.secret else _quoted(text)
            advice = entry.kind.advice(text) if entry.kind.advice is not None else ""
            problems.append(f"The setting {variable} is {shown}; allowed: {entry.kind.allowed}. {advice}".rstrip())
    return parsed


def _with_absolute_paths(entry: Setting, value: Any) -> Any:
    """The value with relative paths resolved against the working folder. A value that may be something else, such as a
    model's name, is resolved only if that path exists. Raises `FileNotFoundError` if the working folder no longer
    exists."""
    if entry.kind in PATHS:
        return working_folder.absolute(value)
    if entry.kind == NAMED_FOLDERS:
        return {name: working_folder.absolute(folder) for name, folder in value.items()}
    if entry.variable == "VLLM_MODEL_NAME":
        path = working_folder.absolute_or_none(value)
        return path if path is not None and os.path.isdir(path) else value
    if entry.variable == "VLLM_EXTRA_ENGINE_ARGS":
        return {name: _path_or(item) if isinstance(item, str) else item for name, item in value.items()}
    return value


def _path_or(word: str) -> str:
    """The absolute path, if the word names an existing file, or anything existing below a folder; else the word itself,
    also where a folder has that name. `~/` is always the home folder."""
    if word.startswith(("~/", "~" + os.sep)):
        return os.path.expanduser(word)
    path = working_folder.absolute_or_none(word)
    if path is not None and (os.path.isfile(path) or (os.path.dirname(word) and os.path.exists(path))):
        return path
    return word


def _quoted(text: str) -> str:
    """The value for a message: shortened, and without a password in a URL."""
    if "//" in text and "@" in text:
        text = text[: text.find("//") + 2] + "…" + text[text.rfind("@") :]
    return repr(text if len(text) <= 100 else text[:100] + "…")
