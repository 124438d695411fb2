"""The tour: what the server must serve however it was installed, on every platform, without vLLM.

    python -m tests.e2e.tour mcp-server-vllm

It runs the given command over real pipes and HTTP; scripted servers stand in for the models. It needs the standard
library and Pillow, which comes with the server.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.installed_server import ANSWER_S, HELLO, REVISION, Installed, Json, Server, result_of
from tests.scripted_omni import ScriptedOmni, png
from tests.scripted_openai import ScriptedOpenAI

LISTENING = re.compile(r"listening at (http://\S+)/mcp$", re.MULTILINE)
SLIM = {"chat_completion", "analyze_images_with_query", "generate_image", "job_status"}
"""The tools that every selection of tools has."""


def initialize(installed: Installed) -> None:
    """The server says who it is, and exits at the end of its input."""
    with installed.start() as server:
        result = server.initialize()
    assert result["protocolVersion"] == REVISION, result
    status, printed = installed.run("--version")
    assert (status, printed.split()[-1]) == (0, result["serverInfo"]["version"]), printed


def list_tools(installed: Installed) -> None:
    """All tools are listed, each with its schema."""
    with installed.start() as server:
        server.initialize()
        tools = {tool["name"]: tool for tool in server.request("tools/list")["tools"]}
    assert set(tools) >= SLIM, sorted(tools)
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools.values())


def remote_chat(installed: Installed) -> None:
    """A question about an image file goes to the server of VLLM_BASE_URL, with the image."""
    with ScriptedOpenAI() as models, installed.start(VLLM_BASE_URL=models.url) as server:
        server.initialize()
        answer = server.call("chat_completion", {"messages": asked("What is this?", image_in(installed.folder))})
        (chat,) = models.chats()
    assert answer["text"] == "What is this?", answer
    assert image_of(chat["messages"][-1]).startswith("data:image/"), chat


def stored_session(installed: Installed) -> None:
    """The next process reads a session with an image from its file, and sends all of it to the model."""
    with ScriptedOpenAI() as models:
        settings = {"VLLM_BASE_URL": models.url, "VLLM_SESSION_DB": str(installed.folder / "sessions.db")}
        with installed.start(**settings) as server:
            server.initialize()
            messages = asked("What is this?", image_in(installed.folder))
            answer = server.call("chat_completion", {"messages": messages, "session_id": "tour"})
            assert answer["store_problem"] is None, answer
        with installed.start(**settings) as server:
            server.initialize()
            answer = server.call("chat_completion", {"messages": asked("And now?"), "session_id": "tour"})
            assert (answer["session_messages"], answer["store_problem"]) == (4, None), answer
        sent = models.chats()[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"], sent
    assert image_of(sent[0]).startswith("data:image/"), sent


def generate_image(installed: Installed) -> None:
    """An image of a vLLM-Omni server is saved as a file, which is a resource."""
    folder = str(installed.folder / "generated")
    with ScriptedOmni() as omni, installed.start(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=folder) as server:
        server.initialize()
        answer = server.call("generate_image", {"prompt": "a red circle", "width": 64, "height": 64, "seed": 5})
        assert [request["seed"] for request in omni.generations()] == [5]
        resources = [resource["name"] for resource in server.request("resources/list")["resources"]]
    path = Path(answer["file_path"])
    assert path.read_bytes().startswith(b"\x89PNG"), answer
    assert path.name in resources


def documents(installed: Installed) -> None:
    """The pages of the documentation are resources."""
    with installed.start() as server:
        server.initialize()
        uris = [resource["uri"] for resource in server.request("resources/list")["resources"]]
        pages = [uri for uri in uris if uri.startswith("vllm://docs/")]
        assert {"vllm://docs/README.md", "vllm://docs/tools.md", "vllm://docs/demo.png"} <= set(pages), uris
        for page in pages:
            (contents,) = server.request("resources/read", {"uri": page})["contents"]
            assert contents.get("text") or contents.get("blob"), page


def view(installed: Installed) -> None:
    """The page of the view is a resource; a tool has its URI."""
    with installed.start() as server:
        server.initialize()
        (tool,) = [tool for tool in server.request("tools/list")["tools"] if tool["name"] == "generate_image"]
        (page,) = server.request("resources/read", {"uri": tool["_meta"]["ui"]["resourceUri"]})["contents"]
    assert page["mimeType"] == "text/html;profile=mcp-app", page
    assert page["text"].startswith("<!doctype html>"), page


def check(installed: Installed) -> None:
    """`--check` finds no problem where the settings name servers that answer."""
    with ScriptedOpenAI() as models, ScriptedOmni() as omni:
        folder = str(installed.folder / "generated")
        status, printed = installed.run("--check", VLLM_BASE_URL=models.url, OMNI_URL=omni.url, OMNI_OUTPUT_DIR=folder)
    assert status == 0, printed
    subjects = {line.split("  ")[0] for line in printed.splitlines()}
    assert {"server", "packages", "model server", "images"} <= subjects, printed


def print_config(installed: Installed) -> None:
    """`--print-config` prints an entry that a client can read; with it, the client starts the server."""
    status, printed = installed.run("--print-config", "claude-desktop")
    assert status == 0, printed
    (entry,) = json.loads(printed)["mcpServers"].values()
    if os.path.isabs(entry["command"]):  # else the command is that of any machine
        command = (entry["command"], *entry.get("args", []))
        with Installed(command, {**installed.environment, **entry.get("env", {})}, installed.folder).start() as server:
            server.initialize()


def serve_http(installed: Installed) -> None:
    """The same server over HTTP."""
    with installed.start("--transport", "http", "--port", "0") as server:
        address = urlsplit(_wait_for_url(server))
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=ANSWER_S)
        result, headers = _post(connection, "initialize", HELLO, {})
        assert result["protocolVersion"] == REVISION, result
        session = {"Mcp-Session-Id": str(headers["Mcp-Session-Id"]), "Mcp-Protocol-Version": REVISION}
        result, _ = _post(connection, "tools/list", {}, session)
        assert {tool["name"] for tool in result["tools"]} >= SLIM
        connection.close()
        server.terminate()


STEPS: tuple[Callable[[Installed], None], ...] = (
    initialize,
    list_tools,
    remote_chat,
    stored_session,
    generate_image,
    documents,
    view,
    check,
    print_config,
    serve_http,
)


def asked(text: str, *images: str) -> list[Json]:
    """The messages of one question about image files."""
    parts: list[Json] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return [{"role": "user", "content": parts}]


def image_in(folder: Path) -> str:
    """The path of a new image."""
    path = folder / "image with spaces.png"
    path.write_bytes(png((96, 64), seed=0xFF))
    return str(path)


def image_of(message: Json) -> str:
    """The URL of the only image of a message to the model."""
    (url,) = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    return str(url)


def _wait_for_url(server: Server) -> str:
    until_s = time.monotonic() + ANSWER_S
    while (found := LISTENING.search(server.stderr)) is None:
        assert server.process.poll() is None, f"the server ended: {server.stderr}"
        assert time.monotonic() < until_s, f"the server does not listen: {server.stderr}"
        time.sleep(0.02)
    return found[1]


def _post(
    connection: http.client.HTTPConnection, method: str, params: Json, headers: Mapping[str, str]
) -> tuple[Json, Message]:
    """Posts one request; returns its result and the headers of the response."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    own = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request("POST", "/mcp", body, {**own, **headers})
    response = connection.getresponse()
    text = response.read().decode("utf-8")
    assert response.status == 200, text
    return result_of(json.loads(text.rstrip().rpartition("\n")[2].removeprefix("data: "))), response.headers


def main(command: Sequence[str]) -> int:
    """Runs all steps and prints the outcome of each; returns 1 if one failed."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    program = shutil.which(command[0])
    if program is None:
        print(f"There is no program {command[0]}.", file=sys.stderr)
        return 2
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "OMNI_"))}
    n_failed = 0
    for step in STEPS:
        with tempfile.TemporaryDirectory(prefix="tour-", ignore_cleanup_errors=True) as folder:
            installed = Installed((os.path.abspath(program), *command[1:]), environment, Path(folder).resolve())
            try:
                step(installed)
            except Exception:
                n_failed += 1
                print(f"{step.__name__}: failed\n{traceback.format_exc()}", flush=True)
            else:
                print(f"{step.__name__}: ok", flush=True)
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
