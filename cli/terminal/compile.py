"""`compile`: makes compiled code for a model on a CPU, which a server with `VLLM_COMPILE=auto` then loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from cli.terminal import usage
from cli.terminal.call import Progress
from cli.terminal.client import CallRefused
from cli.terminal.words import arguments_of
from settings.engine import COMPILE_NOW

if TYPE_CHECKING:
    from cli.terminal.client import Client
    from cli.terminal.screen import Screen
    from cli.terminal.user_input import UserInput
    from settings import Settings

Json = dict[str, Any]

TOOL = "chat_completion"
ABOUT = """\
Loads the model and compiles it, which takes a minute or more and needs a C++ compiler (g++). Run it with the settings \
of the server: code is for one model, one set of settings, one release of vLLM and one kind of processor."""
OPTIONS: dict[str, Json] = {
    "model": {"type": "string", "description": "A name of VLLM_MODELS; the default model without it."},
    "help": usage.CALL_OPTIONS["help"],
}
HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


def compiling(settings: Settings) -> Settings:
    """The settings with which every load compiles the model, also one with a setting of its own."""
    models = {name: replace(options, compile=UNSET) for name, options in settings.engine.models.items()}
    return replace(settings, engine=replace(settings.engine, models=models, compile=COMPILE_NOW))


def compile_model(program: str, words: Sequence[str], client: Client, screen: Screen, user: UserInput) -> int:
    """Runs `compile` and returns the exit status: 1 if there is no code then.

    Raises: `UsageError`; `CallRefused`; `Interrupted`.
    """
    options = arguments_of(words, OPTIONS, user.file)
    if options.pop("help", False):
        screen.write(f"usage: {program} compile [--model NAME]\n\n{ABOUT}\n")
        return 0
    if client.settings.engine.base_url is not None:
        raise CallRefused("The model runs on the server of VLLM_BASE_URL, so there is nothing to compile here.")
    screen.begin("compiling")
    result = client.call(TOOL, {**HELLO, **options}, Progress(screen, is_text=True))
    screen.end()
    if result["isError"]:
        screen.complain("".join(block.get("text", "") for block in result["content"]))
        return 1
    from engine.cpu.compiled_code import folder

    screen.write(f"Compiled code is kept in {folder()}. With VLLM_COMPILE=auto the server loads it.\n")
    return 0
