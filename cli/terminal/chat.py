"""`chat`: a conversation in the terminal. The answer appears while it is generated."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.terminal import usage
from cli.terminal.call import check, find, step_of
from cli.terminal.client import CallRefused, Interrupted
from cli.terminal.words import UsageError, arguments_of
from handlers.chat.chat import ChatArguments
from media.errors import MediaError
from media.files.paths import open_regular_file

if TYPE_CHECKING:
    from cli.terminal.client import Client
    from cli.terminal.screen import Screen
    from cli.terminal.user_input import UserInput

Json = dict[str, Any]

TOOL = "chat_completion"
PROMPT = "> "
WELCOME = "/image PATH adds an image to your next message, /help lists the commands, Ctrl-D ends the chat."
COMMANDS = """\
/image PATH  adds an image (a path or a URL) to the next message
/new         begins a new conversation
/quit        ends the chat, as Ctrl-D does
Ctrl-C       stops an answer; the conversation goes on"""
ABOUT = f"""\
Each line is a message; the answer appears while it is generated. From a pipe, each line is a message too.

{COMMANDS}"""
OWN_OPTIONS: dict[str, Json] = {
    "image": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Images (paths or URLs) for the first message.",
    },
    "system": {"type": "string", "description": "The system message: how the model should answer."},
}
NOT_OFFERED = ("messages", "session_id", "fork_session", "fork_session_id", "logprobs", "top_logprobs")
HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}]}


def chat(program: str, words: Sequence[str], client: Client, screen: Screen, user: UserInput) -> int:
    """Runs `chat` and returns the exit status: 1 if the input is no terminal and a message was not answered.

    Raises: `UsageError`, `CallRefused`, `Interrupted`.
    """
    try:
        schema = find(TOOL, client.tools())["inputSchema"]
    except UsageError:
        raise CallRefused(f"The settings leave out the tool {TOOL}, which chat needs.") from None
    sampling = {name: value for name, value in schema["properties"].items() if name not in NOT_OFFERED}
    properties = {**OWN_OPTIONS, **sampling, "help": usage.CALL_OPTIONS["help"]}
    options = arguments_of(words, properties, user.file)
    if options.pop("help", False):
        screen.write(f"{usage.chat_help(program, properties, ABOUT, screen.columns)}\n")
        return 0
    images, system = options.pop("image", []), options.pop("system", None)
    check({**HELLO, **options}, ChatArguments, ())
    if client.problems:
        raise CallRefused("\n".join(client.problems))
    conversation = Conversation(client, screen, system, options)
    for image in images:
        conversation.add_image(image)
    if user.is_terminal:
        screen.complain(WELCOME)
    return _converse(conversation, screen, user)


def _converse(conversation: Conversation, screen: Screen, user: UserInput) -> int:
    status = 0
    while True:
        try:
            line = user.line(PROMPT)
        except Interrupted as interrupted:
            if interrupted.number != signal.SIGINT or not user.is_terminal:
                raise
            screen.complain("")  # the next prompt begins on a line of its own
            continue
        if line is None or line.strip() in ("/quit", "/exit"):
            if line is None and user.is_terminal:
                screen.complain("")
            return status
        try:
            conversation.take(line)
        except (UsageError, CallRefused) as error:
            screen.complain(str(error))
            status = 0 if user.is_terminal else 1
        except Interrupted as interrupted:
            if interrupted.number != signal.SIGINT or not user.is_terminal:
                raise
            conversation.keep_stopped()


class Conversation:
    """A conversation: its session in the server, and what belongs to the next message.

    Arguments:
        client: runs the calls.
        screen: shows the answers.
        system: the system message, if any.
        options: the other arguments of `chat_completion`.
    """

    def __init__(self, client: Client, screen: Screen, system: str | None, options: Json) -> None:
        self._client = client
        self._screen = screen
        self._system = system
        self._options = options
        self._images: list[Json] = []
        self._unsent: list[Json] = []
        """Messages that the session does not have yet."""
        self._asked: list[Json] = []
        """The messages of the running call, or of the last."""
        self._answer = _Answer(screen)
        self._begin()

    def take(self, line: str) -> None:
        """Runs a command, or sends a message and shows the answer.

        Raises: `UsageError`; `CallRefused`; `Interrupted`, after which `keep_stopped` keeps what was said so far.
        """
        command, _, rest = line.partition(" ")
        if command == "/image":
            self.add_image(rest.strip())
        elif command == "/new":
            self._begin()
            self._images.clear()
        elif command == "/help":
            self._screen.complain(COMMANDS)
        elif command.startswith("/") and command[1:].isalpha():
            raise UsageError(f"There is no command {command[:60]}; /help lists them.")
        elif line.strip():
            self._send(line.strip())

    def add_image(self, path: str) -> None:
        """Adds an image to the next message; raises `UsageError`."""
        if not path:
            raise UsageError("/image needs a path or a URL.")
        if "://" not in path[:10] and not path.startswith(("data:", "file:")):
            path = self._readable(path)
        self._images.append({"type": "image", "path": path})

    def keep_stopped(self) -> None:
        """Keeps the message whose answer was stopped, with the part that was shown; without one, drops it."""
        text = self._answer.text
        self._screen.end()
        if text:
            self._screen.write("\n")
            self._unsent = [*self._asked, {"role": "assistant", "content": text}]
        self._screen.complain("[stopped]" if text else "[stopped; the message was dropped]")

    def _begin(self) -> None:
        self._session_id = secrets.token_hex(8)
        self._unsent = [] if self._system is None else [{"role": "system", "content": self._system}]

    def _send(self, text: str) -> None:
        content = [{"type": "text", "text": text}, *self._images] if self._images else text
        self._images = []
        self._asked = [*self._unsent, {"role": "user", "content": content}]
        self._answer = _Answer(self._screen)
        self._screen.begin("waiting for the answer")
        arguments = {**self._options, "messages": self._asked, "session_id": self._session_id}
        result = self._client.call(TOOL, arguments, self._answer)
        self._screen.end()
        if result["isError"]:
            self._answer.break_off()
            raise CallRefused("\n".join(block["text"] for block in result["content"]))
        self._unsent = []
        self._answer.finish(result["content"][0]["text"])
        for note in notes_on(result["structuredContent"]):
            self._screen.complain(f"[{note}]")

    def _readable(self, path: str) -> str:
        """The path of a file that can be read; terminals quote the paths that are dropped on them."""
        allowed_dirs = self._client.settings.media.allowed_dirs
        candidates = [path]
        with contextlib.suppress(ValueError):  # a quote without its other half
            candidates.append(" ".join(shlex.split(path)))
        problem = None
        for candidate in candidates:
            try:
                open_regular_file(candidate, allowed_dirs).close()
            except MediaError as error:
                problem = problem or error
            else:
                return candidate
        raise UsageError(str(problem))


class _Answer:
    """Shows the text of an answer as it comes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.text = ""

    def progress(self, params: Json) -> None:
        if "total" not in params or "message" not in params:
            self._screen.progress(step_of(params, is_text=True))
            return
        if not self.text:
            self._screen.end()
        self.text += params["message"]
        self._screen.write(params["message"])

    def tick(self) -> None:
        self._screen.tick()

    def finish(self, text: str) -> None:
        """Shows what was not shown yet of the whole text."""
        rest = text[len(self.text) :] if text.startswith(self.text) else f"\n{text}"
        self._screen.write(f"{rest}\n")

    def break_off(self) -> None:
        """Ends the line of an answer that failed."""
        if self.text:
            self._screen.write("\n")


def notes_on(result: Json) -> list[str]:
    """What the user should know of an answer besides its text."""
    notes = []
    if result["finish_reason"] == "length":
        notes.append("cut off: --max-tokens allows no more")
    elif result["finish_reason"] == "timeout":
        notes.append("cut off: the time limit was reached")
    if result["truncated_messages"]:
        notes.append("the oldest messages no longer fit into the model's context and were left out")
    return notes + list(result.get("warnings", ()))
