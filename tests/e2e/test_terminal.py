"""`call`, `tools` and `chat`: over pipes, and on a pseudo-terminal with a user who types and presses Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import drawn, png
from tests.e2e.processes import assert_all_end
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess, client_environment
from tests.e2e.terminal import CTRL_C, CTRL_D, TerminalProcess
from tests.scripted_omni import ScriptedOmni
from tests.scripted_openai import Request, ScriptedOpenAI, goes_on, piece, refuses, said, streams, usage
from tests.waiting import wait_until

PROMPT = "> "
WELCOME = "Ctrl-D ends the chat.\n"
ENDLESS = ("--ignore-eos", "--min-tokens", "1500", "--max-tokens", "1500", "--temperature", "0")


def run(*words: str, cwd: Path, text: str = "", **environment: str) -> tuple[int, str, str]:
    """Runs a command with pipes; its exit status, and what it wrote on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, str(SERVER), *words],
        cwd=cwd,
        env=client_environment(environment),
        input=text.encode(),
        capture_output=True,
        timeout=LOAD_S,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def models() -> Iterator[ScriptedOpenAI]:
    """A server that answers with the words of the last message."""
    with ScriptedOpenAI() as server:
        yield server


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """The name of a picture in the working folder."""
    (tmp_path / "a red circle.png").write_bytes(png(drawn("blue", "circle", "red")))
    return "a red circle.png"


# tools


def test_tools_are_listed(tmp_path: Path) -> None:
    with ServerProcess() as server:
        listed = server.request("tools/list")["result"]["tools"]
    status, out, err = run("tools", "--json", cwd=tmp_path)
    assert (status, json.loads(out), err) == (0, listed, "")
    status, out, err = run("tools", cwd=tmp_path)
    assert [line.split()[0] for line in out.splitlines()] == [tool["name"] for tool in listed]
    status, out, err = run("tools", cwd=tmp_path, VLLM_TOOLSETS="video")
    assert "process_image_to_video" in out
    assert "chat_completion" not in out


def test_lines_of_tools_fit_the_terminal() -> None:
    with TerminalProcess({}, ["tools"]) as terminal:
        assert terminal.wait() == 0
        lines = terminal.rest().splitlines()
    assert lines[0].startswith("chat_completion ")
    assert max(map(len, lines)) <= terminal.columns


# call, over pipes


def test_call_prints_its_result_and_nothing_else_on_stdout(models: ScriptedOpenAI, tmp_path: Path) -> None:
    words = ["call", "chat_completion", "--messages", "Good morning", "--max-tokens", "7"]
    status, out, err = run(*words, cwd=tmp_path, VLLM_BASE_URL=models.url)
    assert (status, out) == (0, "Good morning\n")
    assert err.splitlines()[0] == "asking the model server"
    status, out, _ = run(*words, "--json", cwd=tmp_path, VLLM_BASE_URL=models.url)
    assert status == 0
    result = json.loads(out)
    assert (result["text"], result["finish_reason"]) == ("Good morning", "stop")
    assert models.chats()[-1]["max_tokens"] == 7
    assert list(tmp_path.iterdir()) == []


def test_call_takes_stdin_files_and_pictures_of_the_working_folder(
    models: ScriptedOpenAI, picture: str, tmp_path: Path
) -> None:
    url = {"VLLM_BASE_URL": models.url}
    status, out, err = run("call", "chat_completion", "--messages", "@-", cwd=tmp_path, text="From stdin\n", **url)
    assert (status, out) == (0, "From stdin\n"), err
    message = {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "path": picture}]}
    (tmp_path / "messages.json").write_text(json.dumps([message]))
    status, out, err = run("call", "chat-completion", "--messages", "@messages.json", cwd=tmp_path, **url)
    assert (status, out) == (0, "Look\n"), err
    run("call", "analyze_single_image", "--image", picture, "--query", "What is it?", cwd=tmp_path, **url)
    for chat in models.chats()[-2:]:
        assert "data:image/png;base64," in json.dumps(chat["messages"])


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["call"], 2, "The name of a tool is missing."),
        (["call", "chat_completio"], 2, "Did you mean chat_completion?"),
        (["call", "--jason"], 2, "no option --jason before the name of a tool"),
        (["call", "chat_completion"], 2, "--messages is missing."),
        (["call", "chat_completion", "--message", "a", "--max-tokens", "0"], 2, "--max-tokens: expected int >= 1"),
        (["call", "chat_completion", "--picture", "a"], 2, "There is no option --picture."),
        (["call", "chat_completion", "--messages", "@none.json"], 2, "none.json cannot be read: No such file"),
        (["call", "analyze_single_image", "--image", "none.png", "--query", "a"], 1, "There is no file"),
        (["call", "job_status", "--job-id", "a"], 1, "a"),
        (["tools", "--messages"], 2, "There is no option --messages."),
        (["chat", "--temperature", "9"], 2, "--temperature: expected float <= 2"),
        (["chat", "--image", "none.png"], 2, "There is no file"),
        (["compile", "--jason"], 2, "There is no option --jason."),
        (["compile"], 1, "The model runs on the server of VLLM_BASE_URL"),
        (["chart"], 2, "unknown command 'chart'; there are call, tools, chat"),
    ],
)
def test_wrong_words_and_failures_have_their_exit_status(
    models: ScriptedOpenAI, tmp_path: Path, words: list[str], status: int, text: str
) -> None:
    ended, out, err = run(*words, cwd=tmp_path, VLLM_BASE_URL=models.url)
    assert (ended, out) == (status, ""), err
    assert text in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["call", "--help"], ["call", "model_info", "--help"], ["tools", "-h"], ["chat", "-h"], ["compile", "-h"]]
)
def test_help_of_each_command_goes_to_stdout(tmp_path: Path, words: list[str]) -> None:
    status, out, err = run(*words, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out.startswith("usage: vllm_server.py ")


def test_failure_of_the_model_server_and_wrong_settings_are_told(models: ScriptedOpenAI, tmp_path: Path) -> None:
    models.script(refuses(400, "That is too much."))
    words = ["call", "chat_completion", "--messages", "Hello", "--json"]
    status, out, err = run(*words, cwd=tmp_path, VLLM_BASE_URL=models.url)
    assert (status, out) == (1, "")
    assert "That is too much." in err
    for command in (words, ["chat"]):
        status, out, err = run(*command, cwd=tmp_path, VLLM_DTYPE="int3")
        assert (status, out) == (1, "")
        assert err.count("VLLM_DTYPE") == 1


def test_time_limit_for_hosts_does_not_end_a_call_in_a_terminal(models: ScriptedOpenAI, tmp_path: Path) -> None:
    models.script(streams(*said("at", "last"), delay_s=0.1), goes_on)
    words = ["call", "chat_completion", "--messages", "Hello", "--json"]
    _, out, _ = run(*words, cwd=tmp_path, VLLM_BASE_URL=models.url, VLLM_CALL_TIMEOUT="0.01")
    assert json.loads(out)["text"] == "at last"
    _, out, _ = run(*words, "--timeout-s", "3", cwd=tmp_path, VLLM_BASE_URL=models.url)
    assert json.loads(out)["finish_reason"] == "timeout"


def test_log_goes_into_its_file_and_progress_to_stderr(models: ScriptedOpenAI, tmp_path: Path) -> None:
    words = ["--log-level", "debug", "call", "chat_completion", "--messages", "Hello"]
    status, out, err = run(*words, cwd=tmp_path, VLLM_BASE_URL=models.url, VLLM_LOG_FILE="log")
    assert (status, out) == (0, "Hello\n")
    assert set(err.splitlines()) <= {"asking the model server", "1 of at most 512 tokens"}
    assert "DEBUG" in (tmp_path / "log").read_text()


def test_result_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(SERVER), "call", "model_info"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=LOAD_S)
    assert done.returncode == 1
    assert done.stderr == b"The result could not be written: stdout is closed or full.\n"


def test_image_is_saved_and_its_path_is_the_last_line(tmp_path: Path) -> None:
    with ScriptedOmni() as omni:
        options = ["--vllm-url", omni.url, "--output-dir", "out"]
        words = ["call", "generate_image", "--prompt", "a cat", "--seed", "5", "--filename", "cat.png"]
        status, out, err = run(*options, *words, cwd=tmp_path)
        assert status == 0, err
        path = tmp_path / "out" / "cat.png"
        assert out.splitlines()[-1] == str(path)
        assert path.read_bytes().startswith(b"\x89PNG")
        status, out, err = run(*options, *words, "--json", cwd=tmp_path)
        assert (status, len(out.splitlines()), json.loads(out)["status"]) == (0, 1, "success")
        omni.delay_s = 1.0
        status, out, err = run(*options, *words, "--wait-s", "0", cwd=tmp_path)
    assert status == 1
    assert "The job was stopped" in err
    assert len(list((tmp_path / "out").iterdir())) == 2


# call, on a terminal


def test_terminal_shows_progress_in_one_line_that_goes(models: ScriptedOpenAI) -> None:
    seen = threading.Event()

    def slowly(request: Request, fields: Json) -> None:
        request.begin()
        request.event(piece(content="Hel"))
        assert seen.wait(LOAD_S)
        for event in (piece("stop", content="lo\x1b[2J"), usage(), "[DONE]"):
            request.event(event)

    models.script(slowly)
    words = ["call", "chat_completion", "--messages", "Hi"]
    with TerminalProcess({"VLLM_BASE_URL": models.url}, words) as terminal:
        terminal.see("asking the model server\r")
        terminal.see("1 of at most 512 tokens\r")
        terminal.see("1 of at most 512 tokens, ")  # and the seconds; a busy machine leaves some out
        seen.set()
        assert terminal.wait() == 0
        assert terminal.rest().endswith("  \rHello\\x1b[2J\n")


@pytest.mark.parametrize(("key", "status"), [(CTRL_C, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_stops_the_request_and_the_process(models: ScriptedOpenAI, key: Any, status: int) -> None:
    hung_up = threading.Event()

    def route(request: Request, fields: Json) -> None:
        request.begin()
        request.event(piece(content="on "))
        if request.is_hung_up_on(LOAD_S):
            hung_up.set()

    models.script(route)
    words = ["call", "chat_completion", "--messages", "Hi"]
    with TerminalProcess({"VLLM_BASE_URL": models.url}, words) as terminal:
        terminal.see("1 of at most")
        terminal.type(key) if isinstance(key, str) else terminal.signal(key)
        assert terminal.wait() == status
        assert hung_up.wait(LOAD_S)
        assert "Traceback" not in terminal.shown


def test_ctrl_c_while_the_model_loads_leaves_no_process(model: dict[str, str]) -> None:
    with TerminalProcess(model, ["call", "chat_completion", "--messages", "Hi"]) as terminal:
        terminal.see("importing vLLM")
        others = terminal.descendants()
        terminal.type(CTRL_C)
        assert terminal.wait() in (130, -signal.SIGKILL, -signal.SIGALRM)  # a library may hold the interpreter's lock
        assert_all_end(others)
        assert terminal.marked() == []


def test_ctrl_c_stops_a_real_generation(model: dict[str, str]) -> None:
    with TerminalProcess(model, ["call", "chat_completion", "--messages", "Hello", *ENDLESS]) as terminal:
        terminal.see("loading weights")
        terminal.see("of at most 1500 tokens")
        others = terminal.descendants()
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert_all_end(others)
        assert "WARNING" not in terminal.shown


def test_pictures_are_analyzed_by_the_real_engine(model: dict[str, str], tmp_path: Path) -> None:
    for colour, shape in (("red", "circle"), ("green", "square")):
        (tmp_path / f"{colour}.png").write_bytes(png(drawn("white", shape, colour)))
    words = ["--image", "red.png", "green.png", "--query", "What is it?", "--no-check-relevance", "--json"]
    status, out, err = run("call", "analyze_images_with_query", *words, cwd=tmp_path, **model)
    assert status == 0, err
    first, second = (str(entry) for entry in next(list(v) for v in json.loads(out).values() if isinstance(v, list)))
    assert "red" in first
    assert "green" in second
    assert "Loading safetensors" not in err


# chat


def test_lines_of_a_pipe_are_messages_of_one_conversation(models: ScriptedOpenAI, picture: str, tmp_path: Path) -> None:
    lines = f"one\n\n/image {picture}\ntwo\n/new\nthree"
    status, out, err = run("chat", "--system", "Be kind.", cwd=tmp_path, text=lines, VLLM_BASE_URL=models.url)
    assert (status, out) == (0, "one\ntwo\nthree\n"), err
    first, second, third = ([message["role"] for message in chat["messages"]] for chat in models.chats())
    assert (first, second) == (["system", "user"], ["system", "user", "assistant", "user"])
    assert third == first
    assert "data:image/png;base64," in json.dumps(models.chats()[1]["messages"])
    assert "data:image/png;base64," not in json.dumps(models.chats()[2]["messages"])


def test_failed_message_of_a_pipe_is_told_and_sets_the_status(models: ScriptedOpenAI, tmp_path: Path) -> None:
    models.script(refuses(400, "Not that."), streams(*said("fine")))
    status, out, err = run("chat", cwd=tmp_path, text="one\ntwo\n/nonsense\n", VLLM_BASE_URL=models.url)
    assert (status, out) == (1, "fine\n")
    assert "Not that." in err
    assert "There is no command /nonsense; /help lists them." in err
    roles = [message["role"] for message in models.chats()[-1]["messages"]]
    assert roles == ["user"]


def test_conversation_is_in_no_file_of_sessions(models: ScriptedOpenAI, tmp_path: Path) -> None:
    settings = {"VLLM_BASE_URL": models.url, "VLLM_SESSION_DB": str(tmp_path / "sessions.db")}
    assert run("chat", cwd=tmp_path, text="one\n", **settings)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_answer_appears_while_it_is_generated(models: ScriptedOpenAI, picture: str, tmp_path: Path) -> None:
    seen = threading.Event()

    def slowly(request: Request, fields: Json) -> None:
        request.begin()
        request.event(piece(content="Once"))
        assert seen.wait(LOAD_S)
        for event in (piece("length", content=" upon"), usage(), "[DONE]"):
            request.event(event)

    models.script(slowly)
    words = ["chat", "--image", picture, "--max-tokens", "2"]
    with TerminalProcess({"VLLM_BASE_URL": models.url}, words, cwd=tmp_path) as terminal:
        terminal.see(WELCOME)
        terminal.see(PROMPT)
        terminal.enter("Tell me")
        terminal.see("Once")
        seen.set()
        terminal.see(" upon\n[cut off: --max-tokens allows no more]\n")
        terminal.see(PROMPT)
        terminal.enter("/quit")
        assert terminal.wait() == 0
    (chat,) = models.chats()
    assert chat["max_tokens"] == 2
    assert [part["type"] for part in chat["messages"][0]["content"]] == ["text", "image_url"]


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(models: ScriptedOpenAI) -> None:
    models.script(goes_on, streams(*said("again")))
    with TerminalProcess({"VLLM_BASE_URL": models.url}, ["chat"]) as terminal:
        terminal.see(PROMPT)
        terminal.enter("Go")
        terminal.see("on on on")
        terminal.type(CTRL_C)
        terminal.see("[stopped]\n")
        terminal.see(PROMPT)
        terminal.enter("And now?")
        terminal.see("again\n")
        terminal.see(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
    user, partial, last = models.chats()[-1]["messages"]
    assert (user["content"], last["content"]) == ("Go", "And now?")
    assert partial["role"] == "assistant"
    assert partial["content"].startswith("on on on")


def test_mistakes_at_the_prompt_do_not_end_the_chat(models: ScriptedOpenAI, picture: str, tmp_path: Path) -> None:
    with TerminalProcess({"VLLM_BASE_URL": models.url}, ["chat"], cwd=tmp_path) as terminal:
        terminal.see(PROMPT)
        for line, answer in (
            ("/image none.png", "There is no file"),
            ("/image", "/image needs a path or a URL."),
            ("/magic", "There is no command /magic; /help lists them."),
            ("/help", "begins a new conversation"),
            (f"/image '{picture}'", picture),  # as a terminal quotes a file that is dropped on it
            ("Look", "Look\n"),
        ):
            terminal.enter(line)
            terminal.see(answer)
            terminal.see(PROMPT)
        terminal.type("half a line")
        terminal.see("half a line")
        terminal.type(CTRL_C)
        terminal.see(f"\n{PROMPT}")
        terminal.enter("/quit")
        assert terminal.wait() == 0
    (chat,) = models.chats()
    assert "data:image/png;base64," in json.dumps(chat["messages"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_chat_at_its_prompt(models: ScriptedOpenAI, number: signal.Signals) -> None:
    with TerminalProcess({"VLLM_BASE_URL": models.url}, ["chat"]) as terminal:
        terminal.see(PROMPT)
        terminal.type("x")
        terminal.see("x")
        terminal.signal(number)
        assert terminal.wait() == 128 + number


def test_conversation_with_the_real_model(model: dict[str, str], picture: str, tmp_path: Path) -> None:
    with TerminalProcess(model, ["chat", *ENDLESS], cwd=tmp_path) as terminal:
        terminal.see(PROMPT)
        terminal.enter("My name is Alice.")
        terminal.see("importing vLLM")
        terminal.see("loading weights")
        terminal.see("Alice")
        terminal.type(CTRL_C)
        terminal.see("[stopped]\n")
        terminal.see(PROMPT)
        terminal.enter("What is my name?")
        terminal.see("Alice")
        terminal.type(CTRL_C)
        terminal.see(PROMPT)
        terminal.enter("/new")
        terminal.see(PROMPT)
        terminal.enter(f"/image {picture}")
        terminal.see(PROMPT)
        terminal.enter("What is in this image?")
        terminal.see("red circle")
        terminal.type(CTRL_C)
        terminal.see(PROMPT)
        others = terminal.descendants()
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
        wait_until(lambda: not any(process.alive() for process in others))
        assert "WARNING" not in terminal.shown
