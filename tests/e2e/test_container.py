"""The container without Docker: the Dockerfile's own steps in a plain folder, and the server started from there as the
image starts it.

Left out is what only a container can do or nobody wants done to a test machine: packages of the system, the user, and
the compiling of all that is installed. The packages themselves are the project's own `.venv`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers import ROOT, Context, Instruction, Stage, built_from, stages
from tests.e2e.environments import python_environment
from tests.e2e.lines import parsed
from tests.e2e.package import WHEEL, build
from tests.e2e.server_process import ANSWER_S, EXIT_S, LOAD_S, client_environment

TOKEN = "a-token-of-the-test"
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}


@dataclass(frozen=True)
class Image:
    """A folder that stands for the image's root."""

    root: Path

    @property
    def app(self) -> Path:
        """The folder of the server in it."""
        return self.root / "app"

    def command(self, *instructions: Instruction, **replaced: str) -> list[str]:
        """The words of instructions such as ENTRYPOINT, with paths of this folder; `replaced` has words to change."""
        words = [word for instruction in instructions for word in instruction.words]
        return [replaced.get(word, word).replace("/app/", f"{self.app}/") for word in words]

    def environment(self, stage: Stage) -> dict[str, str]:
        """What the image sets, with paths of this folder."""
        pairs = [pair.split("=", 1) for instruction in stage.all("ENV") for pair in instruction.words]
        return {name: f"{self.root}{value}" if value.startswith("/") else value for name, value in pairs}

    def build(self, kind: str) -> None:
        """Carries out the steps of the stages that make the image's /app."""
        self.app.mkdir()
        (self.app / ".venv").symlink_to(ROOT / ".venv")
        context = Context()
        for stage in built_from("build"):
            for instruction in stage.instructions:
                if instruction.name == "COPY":
                    self._copy(instruction, context)
                elif instruction.name == "RUN" and stage.name != "base" and "compileall" not in instruction.text:
                    self._run(instruction, {"KIND": kind})

    def _copy(self, instruction: Instruction, context: Context) -> None:
        *sources, target = instruction.words
        for name in context.files() if sources == ["."] else sources:
            kept = name if sources == ["."] else Path(name).name
            place = self.app / target / kept
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place)

    def _run(self, instruction: Instruction, arguments: Mapping[str, str]) -> None:
        done = subprocess.run(
            ["sh", "-c", instruction.text],
            cwd=self.app,
            env=client_environment({"HOME": str(self.root), **arguments}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_S,
        )
        assert done.returncode == 0, f"{instruction.text}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image's folder, built once; the real model answers in it while it is built."""
    done = ROOT / ".venv" / "setup.done.run"
    if not done.exists():
        pytest.skip("the project's .venv was not made by scripts/setup")
    image = Image(tmp_path_factory.mktemp("image"))
    image.build(done.read_text().split()[0])
    return image


def test_image_has_nothing_but_what_runs(image: Image) -> None:
    top = {path.name for path in image.app.iterdir()}
    assert {"vllm_server.py", "scripts", "deploy", "models", ".venv"} <= top
    assert top.isdisjoint({"tests", ".git", ".env", "benchmarks"})


def test_image_serves_over_stdin_when_it_gets_other_options(image: Image) -> None:
    stage = stages()["server"]
    done = subprocess.run(
        [*image.command(stage.last("ENTRYPOINT")), "--log-level", "WARNING"],
        input=json.dumps(INITIALIZE) + "\n",
        cwd=image.root,
        env=client_environment(image.environment(stage)),
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout.encode())["result"]["serverInfo"]["name"] == "vllm-mcp-server"


class Container:
    """The image's own command, at any free port in place of 8080, until the end of a `with`."""

    def __init__(self, image: Image, **environment: str) -> None:
        stage = stages()["server"]
        command = image.command(stage.last("ENTRYPOINT"), stage.last("CMD"), **{"8080": "0"})
        self._log = image.root / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=image.app,
                env=client_environment({**image.environment(stage), **environment}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    def port(self) -> str:
        """The port that it took; waits until it listens."""
        until_s = time.monotonic() + LOAD_S
        while self.process.poll() is None and time.monotonic() < until_s:
            if found := re.search(r"listening at http://0\.0\.0\.0:(\d+)/mcp", self.log):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(self.log)


def ask(port: str, **headers: str) -> tuple[int, bytes]:
    """Sends `initialize` over HTTP; the status and the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/mcp",
        json.dumps(INITIALIZE).encode(),
        {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def test_image_serves_over_http_to_whoever_has_a_token_and_ends_with_a_signal(image: Image) -> None:
    with Container(image, VLLM_HTTP_TOKENS=TOKEN) as container:
        port = container.port()
        status, answer = ask(port, Authorization=f"Bearer {TOKEN}")
        assert status == 200
        assert b"vllm-mcp-server" in answer
        assert ask(port)[0] == 401
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(EXIT_S) == 0
        assert TOKEN not in container.log


def test_health_check_of_the_image_tells_whether_the_server_answers(image: Image) -> None:
    text = stages()["server"].last("HEALTHCHECK").text.removeprefix("CMD ")
    with Container(image, VLLM_HTTP_TOKENS=TOKEN) as container:
        port = container.port()
        command = image.command(Instruction("CMD", {}, text), **{"8080": port})
        assert subprocess.run(command, env={}, capture_output=True, timeout=LOAD_S).returncode == 0
        container.process.kill()
        container.process.wait(EXIT_S)
        assert subprocess.run(command, env={}, capture_output=True, timeout=LOAD_S).returncode == 1


def test_image_does_not_start_without_a_token_and_says_why(image: Image) -> None:
    with Container(image) as container:
        assert container.process.wait(LOAD_S) == 2
        assert "Set VLLM_HTTP_TOKENS" in container.log


def test_settings_in_the_file_beside_the_server_hold(image: Image) -> None:
    file = image.app / ".env"
    file.write_text("VLLM_DTYPE=int3  # no such type\n")
    try:
        done = subprocess.run(
            [image.app / "scripts" / "start.sh", "--check"],
            env=client_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_S,
        )
    finally:
        file.unlink()
    assert done.returncode == 1
    assert "VLLM_DTYPE is 'int3'" in done.stdout


def test_development_starts_the_server_again_when_a_file_changes(image: Image) -> None:
    log = image.root / "dev.log"

    def wait_for(text: str, n_times: int) -> None:
        until_s = time.monotonic() + LOAD_S
        while log.read_text().count(text) < n_times:
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.02)

    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [image.app / "scripts" / "start-dev.sh", "--port", "0"],
            env=client_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        wait_for("listening at", 1)
        (image.app / "engine" / "errors.py").touch()
        wait_for("listening at", 2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=EXIT_S)
        wait_for("shutting down", 2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_context_is_enough_to_build_the_whole_package(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name in Context().files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    names = []
    for tree, dist in ((ROOT, tmp_path / "all"), (source, tmp_path / "context")):
        build(tree, "wheel", dist)
        with zipfile.ZipFile(dist / WHEEL) as wheel:
            names.append(sorted(wheel.namelist()))
    assert names[0] == names[1]


def test_dockerfile_is_as_its_linter_wants_it() -> None:
    hadolint = python_environment("containers").parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def composed(*files: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the real Compose makes of files, all profiles included; it needs no Docker for that."""
    folder = python_environment("containers").parents[1]
    (program,) = folder.glob("lib/python3*/site-packages/compose/docker-compose")  # its wrapper loses the exit status
    named = [word for file in files for word in ("-f", ROOT / file)]
    return subprocess.run(
        [program, "--profile", "*", "--env-file", "/dev/null", *named, "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
    )


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (("docker-compose.yml",), None),
        (("docker-compose.yml", "docker-compose.gpu.yml"), "gpu"),
    ],
)
def test_compose_takes_the_files(files: tuple[str, ...], kind: str | None) -> None:
    done = composed(*files, VLLM_HTTP_TOKENS=TOKEN)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"server", "omni", "proxy"}
    assert services["server"]["build"].get("args", {}).get("KIND") == kind
    assert services["server"]["environment"]["VLLM_HTTP_TOKENS"] == TOKEN


def test_compose_refuses_to_start_without_a_token_and_says_why() -> None:
    done = composed("docker-compose.yml")
    assert done.returncode != 0
    assert "Put VLLM_HTTP_TOKENS=SECRET into .env" in done.stderr


def test_scripts_can_be_run_in_the_image(image: Image) -> None:
    for name in ("start.sh", "setup", "omni-cpu"):
        assert os.access(image.app / "scripts" / name, os.X_OK)
