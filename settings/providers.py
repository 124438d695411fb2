"""The configured providers: OpenAI, DashScope, and those of the file of VLLM_CONFIG_FILE.

{"providers": [
    {"name": "groq", "base_url": "https://api.groq.com/openai/v1", "api_key_env": "GROQ_API_KEY"},
    {"name": "lab", "base_url": "http://gpu-host:8000/v1", "default_model": "Qwen/Qwen2.5-VL-7B-Instruct",
     "models": ["Qwen/Qwen2.5-VL-7B-Instruct", {"id": "asr", "modalities": ["text", "audio"]}]}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from settings import placeholders
from settings.kinds import TEXT, WEB_SERVER, Kind
from settings.text_file import SettingFileError, text_of

if TYPE_CHECKING:
    from settings.engine import EngineSettings
    from settings.services import ProviderSettings

OPENAI, DASHSCOPE, LOCAL, VLLM = "openai", "dashscope", "local", "vllm"
OPENAI_URL = "https://api.openai.com/v1"
DASHSCOPE_URL = "https://dashscope.aliyuncs.com/compatible-mode/v1"
CONFIG_VARIABLE = "VLLM_CONFIG_FILE"
ASK_TIMEOUT_S = 5.0
SILENCE_S = 600.0
"""How long a server may send nothing during a request: on a busy server, requests wait for minutes."""

Modality = Literal["text", "image", "audio", "video"]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Text = Annotated[str, Meta(min_length=1, max_length=256)]
_Seconds = Annotated[float, Meta(gt=0, le=3_600)]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ModelEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A model of a provider: its name, its input modalities, and its context length in tokens; `None`: unknown."""

    id: _Text
    modalities: tuple[Modality, ...] | None = None
    context_length: Annotated[int, Meta(ge=1)] | None = None


class RemoteProvider(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAI-compatible service.

    Arguments:
        models: the only models to offer; empty: those that the service lists.
        unlisted_models: calls may name further models.
        ask_timeout_s: longest time of the request that lists the models.
        silence_s: longest time without data during a generation.
        address_setting: the setting of its address, for messages.
        key_setting: the setting of its key, for messages.
        missing: the setting without which it cannot be used.
    """

    name: str
    base_url: str
    api_key: str | None = None
    models: tuple[ModelEntry, ...] = ()
    default_model: str | None = None
    first_model_is_default: bool = False
    unlisted_models: bool = False
    ask_timeout_s: float = ASK_TIMEOUT_S
    silence_s: float = SILENCE_S
    address_setting: str = "VLLM_BASE_URL"
    key_setting: str = "VLLM_REMOTE_API_KEY"
    missing: str | None = None

    def __repr__(self) -> str:
        """Shows no key."""
        return f"RemoteProvider(name={self.name!r}, base_url={self.base_url!r})"


class _Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One provider in the file."""

    name: _Name
    base_url: _Text
    api_key: Annotated[str, Meta(min_length=1)] | None = None
    api_key_env: Annotated[str, Meta(min_length=1)] | None = None
    models: tuple[_Text | ModelEntry, ...] = ()
    default_model: _Text | None = None
    unlisted_models: bool = False
    ask_timeout_s: _Seconds = ASK_TIMEOUT_S
    silence_s: _Seconds = SILENCE_S


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    providers: list[_Entry]


def remote_providers(
    engine: EngineSettings, bundled: bool, own: ProviderSettings, more: tuple[RemoteProvider, ...]
) -> tuple[RemoteProvider, ...]:
    """All remote providers: the server of VLLM_BASE_URL, if any, then OpenAI, DashScope and those of the file, whose
    entries may replace OpenAI and DashScope.

    Arguments: `bundled`, whether the configured model is the bundled one, which no other server has.
    """
    providers = []
    if engine.base_url is not None:
        model = None if bundled else engine.model_name
        providers.append(
            RemoteProvider(
                name=VLLM,
                base_url=engine.base_url,
                api_key=engine.remote_api_key,
                default_model=model,
                first_model_is_default=model is None,
            )
        )
    for name, key, url, default_url in (
        (OPENAI, own.openai_api_key, own.openai_base_url, OPENAI_URL),
        (DASHSCOPE, own.dashscope_api_key, own.dashscope_base_url, DASHSCOPE_URL),
    ):
        if any(provider.name == name for provider in more):
            continue
        key_setting = f"{name.upper()}_API_KEY"
        providers.append(
            RemoteProvider(
                name=name,
                base_url=url or default_url,
                api_key=key,
                address_setting=f"{name.upper()}_BASE_URL",
                key_setting=key_setting,
                missing=key_setting if key is None and url in (None, default_url) else None,
            )
        )
    if engine.unlisted_models:
        return tuple(msgspec.structs.replace(provider, unlisted_models=True) for provider in (*providers, *more))
    return (*providers, *more)


def read_config_file(path: str, values: Mapping[str, str], problems: list[str]) -> tuple[RemoteProvider, ...]:
    """The providers of the file, in its order.

    Arguments:
        values: the variables that the file may name.
        problems: gets a sentence for each error in the file, without keys.
    """
    try:
        entries = msgspec.json.decode(text_of(path), type=_File).providers
        providers = tuple(_provider(entry, f"providers[{i}]", values) for i, entry in enumerate(entries))
        _check_names([provider.name for provider in providers])
    except SettingFileError as error:
        problems.append(f"The file that {CONFIG_VARIABLE} names {error}.")
    except msgspec.ValidationError as error:
        problems.append(f"The file that {CONFIG_VARIABLE} names is invalid: {_readable(str(error))}.")
    except (msgspec.DecodeError, RecursionError) as error:
        where = re.search(r"\(byte (\d+)\)", str(error))
        place = f" at byte {where[1]}" if where else ""
        problems.append(f"The file that {CONFIG_VARIABLE} names is not JSON{place}.")
    else:
        return providers
    return ()


def _provider(entry: _Entry, where: str, values: Mapping[str, str]) -> RemoteProvider:
    base_url = _value(entry.base_url, WEB_SERVER, f"{where}.base_url")
    if entry.api_key is not None and entry.api_key_env is not None:
        raise SettingFileError(f"is invalid: {where} has both api_key and api_key_env; one is enough")
    models = tuple(ModelEntry(model) if isinstance(model, str) else model for model in entry.models)
    ids = [model.id for model in models]
    if len(set(ids)) < len(ids):
        raise SettingFileError(f"is invalid: {where}.models has a model twice")
    if models and entry.default_model not in (None, *ids):
        raise SettingFileError(f"is invalid: {where}.default_model is not among its models")
    key = None if entry.api_key is None else _value(entry.api_key, TEXT, f"{where}.api_key")
    key_setting, missing = f"api_key of {entry.name} in the file of {CONFIG_VARIABLE}", None
    if entry.api_key_env is not None:
        if not _VARIABLE.fullmatch(entry.api_key_env):
            # Somebody may have put the key itself here: do not show it.
            raise SettingFileError(f"is invalid: {where}.api_key_env must be the name of a variable")
        key_setting = entry.api_key_env
        given = placeholders.cleaned(values.get(key_setting, ""))
        key = _value(given, TEXT, f"the variable {key_setting}, which {where} names,") if given else None
        missing = key_setting if key is None else None
    return RemoteProvider(
        name=entry.name,
        base_url=base_url,
        api_key=key,
        models=models,
        default_model=entry.default_model,
        unlisted_models=entry.unlisted_models,
        ask_timeout_s=entry.ask_timeout_s,
        silence_s=entry.silence_s,
        address_setting=f"base_url of {entry.name} in the file of {CONFIG_VARIABLE}",
        key_setting=key_setting,
        missing=missing,
    )


def _value(text: str, kind: Kind, what: str) -> Any:
    """The value of an entry in the file, or of a variable that the file names."""
    placeholder = placeholders.unfilled(text)
    if placeholder is not None:
        raise SettingFileError(f"is invalid: {what} holds the placeholder {placeholder!r}")
    try:
        return kind.parse(text)
    except ValueError:
        raise SettingFileError(f"is invalid: {what} must be {kind.allowed}") from None


def _check_names(names: list[str]) -> None:
    for name in names:
        if name in (LOCAL, VLLM):
            raise SettingFileError(f"is invalid: the provider name {name} is reserved")
        if names.count(name) > 1:
            raise SettingFileError(f"is invalid: two providers have the name {name}")


def _readable(message: str) -> str:
    """msgspec's message with its path first: ``Expected `int`, got `str` - at `$.a` `` → `a: expected int, got str`."""
    problem, _, path = message.partition(" - at ")
    where = path.strip("`").removeprefix("$").removeprefix(".")
    problem = problem.replace("`", "")
    return f"{where}: {problem[:1].lower()}{problem[1:]}" if where else problem[:1].lower() + problem[1:]
