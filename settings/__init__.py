"""Every setting of the server: its name, default, range and meaning. Nothing else reads the environment.

Each room of the ground floor gets its own section, a frozen Struct. A wrong value does not stop the server: the
default is used in its place and a sentence is put into `Settings.problems`, which every tool call answers until the
setting is mended. Empty values count as not set, since some hosts pass them for "nothing".
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from settings import placeholders, working_folder
from settings.engine import DEMO_MODEL, MAX_IDLE_TIMEOUT_S, ROOT, EngineSettings, SamplingSettings, SessionSettings
from settings.kinds import FILE, FILE_OR_FOLDER, FOLDER, NAMED_FOLDERS, Kind, Setting
from settings.media import MediaSettings
from settings.misspelt import slips
from settings.network import NetworkSettings
from settings.omni import OmniSettings
from settings.server import LOG_LEVELS, TOOL_FAMILIES, TRANSPORTS, HttpSettings, ServerSettings
from settings.services import ProviderSettings

if TYPE_CHECKING:
    from settings.providers import RemoteProvider

__all__ = [
    "DEMO_MODEL",
    "LOG_LEVELS",
    "MAX_IDLE_TIMEOUT_S",
    "ROOT",
    "SECTIONS",
    "TOOL_FAMILIES",
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
    "read",
    "rows",
]

SERVER_NAME = "vllm-mcp-server"
SERVER_TITLE = "vLLM"
SERVER_DESCRIPTION = (
    "Chat with a vision-language model that runs on this machine, in a vLLM engine inside the server; pictures from a "
    "vLLM-Omni server."
)
SERVER_INSTRUCTIONS = (
    "chat_completion answers messages with text and pictures; give a session_id to hold a conversation. "
    "analyze_images_with_query looks at up to 64 pictures at once. Pictures are given by absolute path, URL or base64. "
    "The first call loads the model: if told that it still loads, ask again. release_gpu gives its memory back. "
    "generate_image makes pictures: status 'running' means that job_status has the result later. "
    "generate_multimodal_response asks hosted models; list_available_providers tells which there are."
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


class Settings(msgspec.Struct, frozen=True):
    """All sections, a sentence for each value that could not be used, and one for each that may not be what was meant.

    `more_providers` are those of `VLLM_CONFIG_FILE`; `from_env_file` has the variables that `VLLM_ENV_FILE` adds, for
    the libraries that read the environment themselves, and `library_paths` their variables with relative paths, made
    absolute.
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

    def __repr__(self) -> str:
        """Nothing of them: some are keys."""
        return f"Settings(problems={self.problems!r})"


class Row(msgspec.Struct, frozen=True):
    """One line of the settings table."""

    section: str
    variable: str
    default: str
    allowed: str
    meaning: str


def rows() -> Iterator[Row]:
    """The settings in their order, for the README and `--help`."""
    for section, cls in SECTIONS.items():
        defaults = cls()
        for name, entry in _entries(cls):
            default = entry.shown if entry.shown is not None else _shown(getattr(defaults, name))
            yield Row(section, entry.variable, default, entry.kind.allowed, entry.meaning)


def _entries(cls: type[Any]) -> Iterator[tuple[str, Setting]]:
    for name, annotation in cls.__annotations__.items():
        yield name, annotation.__metadata__[0]


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def read(environment: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Settings:
    """Builds the settings from environment variables; `overrides` (from the command line) win."""
    problems: list[str] = []
    values = {**environment, **(overrides or {})}
    added: dict[str, str] = {}
    if path := _path_of_env_file(values):
        from settings.env_file import added_variables  # only where there is such a file

        added = added_variables(path, values, problems)
        values |= added
    library_paths = working_folder.library_paths(values)
    values |= library_paths
    aliases = _aliases(values)
    sections = {name: cls(**_section_values(cls, values, aliases, problems)) for name, cls in SECTIONS.items()}
    more_providers: tuple[RemoteProvider, ...] = ()
    if (path := sections["providers"].config_file) is not None:
        from settings.providers import read_config_file  # only where there is such a file

        more_providers = read_config_file(path, values, problems)
    if sections["http"].transport != "stdio" and sections["media"].allowed_dirs is None:
        sections["media"] = msgspec.structs.replace(sections["media"], allowed_dirs=())
    if not sections["http"].tokens and placeholders.cleaned(values.get("VLLM_HTTP_TOKENS", "")):
        import secrets

        # Tokens that cannot be used were to keep others out: until they are mended, nobody has the right one.
        sections["http"] = msgspec.structs.replace(sections["http"], tokens=(secrets.token_hex(32),))
    surely, maybe = slips(values, [entry.variable for cls in SECTIONS.values() for _, entry in _entries(cls)])
    return Settings(
        **sections,
        more_providers=more_providers,
        from_env_file=added,
        library_paths=library_paths,
        problems=(*problems, *surely),
        warnings=(*maybe, *_missing_folders(sections["media"])),
    )


def settle(environment: MutableMapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Reads the settings of this process, lets libraries find theirs, and leaves the working folder.

    From then on relative paths count from where the process was by `working_folder.absolute` alone.
    """
    settings = read(environment, overrides)
    environment.update(settings.from_env_file | settings.library_paths)
    working_folder.leave()
    return settings


def _missing_folders(media: MediaSettings) -> Iterator[str]:
    """A sentence for each allowed folder that is not there: whatever a call names is outside of it."""
    for folder in media.allowed_dirs or ():
        if not os.path.isdir(folder):
            yield f"VLLM_ALLOWED_MEDIA_DIRS names {folder}, and there is no such folder."


def _path_of_env_file(values: Mapping[str, str]) -> str:
    """The file with more settings; "" where none is named, or in a way that is a problem, told with all others."""
    path = placeholders.with_variables(placeholders.cleaned(values.get("VLLM_ENV_FILE", "")), values)
    try:
        return FILE.parse(path) if path and not placeholders.unfilled_in_path(path) else ""
    except ValueError:
        return ""


def _aliases(values: dict[str, str]) -> dict[str, str]:
    """Takes two settings from Hugging Face's other variables for them, where they are not set themselves.

    Returns the variable that stands for each, for messages about it.
    """
    aliases: dict[str, str] = {}

    def value(name: str) -> str:
        return placeholders.cleaned(values.get(name, ""))

    if not value("HUGGING_FACE_HUB_TOKEN") and value("HF_TOKEN"):
        values["HUGGING_FACE_HUB_TOKEN"] = values["HF_TOKEN"]
        aliases["HUGGING_FACE_HUB_TOKEN"] = "HF_TOKEN"
    for name, below in (("HF_HOME", ("hub",)), ("XDG_CACHE_HOME", ("huggingface", "hub"))):
        if not value("HF_HUB_CACHE") and value(name):
            values["HF_HUB_CACHE"] = os.path.join(value(name), *below)
            aliases["HF_HUB_CACHE"] = name
    return aliases


def _section_values(
    cls: type[Any], values: Mapping[str, str], aliases: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
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
            found[name] = _with_absolute_paths(entry, entry.kind.parse(text))
        except FileNotFoundError as error:
            problems.append(f"The setting {variable} is a relative path, and {error}; give an absolute path.")
        except (ValueError, OverflowError):
            shown = "not shown" if entry.kind.secret else _quoted(text)
            advice = entry.kind.advice(text) if entry.kind.advice is not None else ""
            problems.append(f"The setting {variable} is {shown}; allowed: {entry.kind.allowed}. {advice}".rstrip())
    return found


def _with_absolute_paths(entry: Setting, value: Any) -> Any:
    """The value with paths that count from the working folder; one that is not sure to be a path, such as a model's
    name, counts from there if something is there.

    Raises: `FileNotFoundError` where that folder is gone.
    """
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
    """The absolute path of what is there under a relative one: a file, or below a folder anything. A bare word that
    is a folder's name too is rather a word. `~/` is always the home folder."""
    if word.startswith("~" + os.sep):
        return os.path.expanduser(word)
    path = working_folder.absolute_or_none(word)
    if path is not None and (os.path.isfile(path) or (os.sep in word and os.path.exists(path))):
        return path
    return word


def _quoted(text: str) -> str:
    """What a setting was, shortened and without what may be a password in a URL."""
    if "//" in text and "@" in text:
        text = text[: text.find("//") + 2] + "…" + text[text.rfind("@") :]
    return repr(text if len(text) <= 100 else text[:100] + "…")
