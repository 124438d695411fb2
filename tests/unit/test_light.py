"""Without vLLM, numpy and PyAV: what works works, and what needs them says so and names one command."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.check import machine
from cli.check.findings import State
from engine.errors import EngineUnavailable
from engine.local.engine import LocalEngine
from engine.sessions.codec import decode_image, encode_image
from handlers.model import available, model
from handlers.providers import providers
from media.decoding.images import decode
from settings import EngineSettings, installation, missing_media, missing_vllm, repair_vllm
from tests.unit.cli.conftest import MakeServices, make_services  # noqa: F401

HIDDEN = ("vllm", "torch", "numpy", "av")
MAX_PIXELS = 1 << 20


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing them raises ModuleNotFoundError, and `find_spec` finds nothing."""
    for name in HIDDEN:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is an installed package."""
    monkeypatch.setattr(installation, "ROOT", str(tmp_path))


def test_clone_names_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    text = missing_vllm()
    assert text is not None
    assert "run `scripts/demo` once" in text
    assert "or set VLLM_BASE_URL" in text
    assert sys.executable in text
    assert repair_vllm() == "scripts/demo"


@pytest.mark.usefixtures("installed")
def test_package_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    text = missing_vllm()
    assert text is not None
    assert "run `mcp-server-vllm --install-engine`" in text
    assert "or set VLLM_BASE_URL" in text
    assert repair_vllm() == "mcp-server-vllm --install-engine"
    monkeypatch.setattr(sys, "prefix", "/home/me/.cache/uv/archive-v0/abc")
    assert "run `uvx mcp-server-vllm --install-engine`" in str(missing_vllm())
    assert repair_vllm() == "uvx mcp-server-vllm --install-engine"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_not_told_to_install_it(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert missing_vllm() == (
        "vLLM runs on Linux only, so no model runs on this machine: set VLLM_BASE_URL to the address of a vLLM or "
        "other OpenAI-compatible server."
    )


def test_with_vllm_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "vllm")
    monkeypatch.syspath_prepend(tmp_path)
    assert missing_vllm() is None


@pytest.mark.parametrize("model_name", ["", "/no/such/folder"])
def test_local_chat_asks_for_vllm_before_the_model(model_name: str) -> None:
    settings = EngineSettings(model_name=model_name) if model_name else EngineSettings()
    engine = LocalEngine(settings)
    with pytest.raises(EngineUnavailable) as caught:
        engine.load()
    assert str(caught.value) == f"Failed to initialize vLLM: {missing_vllm()}"
    assert engine.status().error == str(caught.value)
    engine.close()


def test_status_and_check_say_the_same(make_services: MakeServices) -> None:  # noqa: F811
    services = make_services()
    services.engine = LocalEngine(services.settings.engine)
    assert model.model_facts(services).error == missing_vllm()
    assert providers._local_info(services).error == missing_vllm()
    assert str(available._local_models(services)[1]).startswith(f"{missing_vllm()} ")
    (row,) = machine.vllm(services)
    assert (row.state, row.text) == (State.PROBLEM, missing_vllm())


def test_status_of_an_engine_looks_for_vllm_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["It is missing."])
    monkeypatch.setattr("engine.local.engine.missing_vllm", lambda: next(texts))
    engine = LocalEngine(EngineSettings())
    assert [engine.status().error for _ in range(3)] == ["It is missing."] * 3


def test_remote_model_needs_no_vllm(make_services: MakeServices) -> None:  # noqa: F811
    services = make_services(VLLM_BASE_URL="http://127.0.0.1:9")
    assert model.model_facts(services).error is None
    assert machine.vllm(services)[0].state is State.OFF


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/home/me/.cache/uv/archive-v0/abc", "`uvx --from 'mcp-server-vllm[media]' mcp-server-vllm`"),
        ("/home/me/venv", "-m pip install 'mcp-server-vllm[media]'`"),
        ("", "`uv tool install 'mcp-server-vllm[media]'`"),
    ],
)
def test_media_are_installed_the_way_the_server_was(
    prefix: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not prefix:
        (tmp_path / "uv-receipt.toml").write_text("")
    monkeypatch.setattr(sys, "prefix", prefix or str(tmp_path))
    text = missing_media("audio")
    assert text.startswith("The audio needs the extra media: ")
    assert command in text


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 1), (33, 9)])
def test_stored_image_is_the_same(mode: str, size: tuple[int, int]) -> None:
    noise = Image.effect_noise(size, 90)
    image = Image.merge(mode, [noise.rotate(90 * turn) for turn in range(len(mode))]) if mode != "L" else noise
    assert decode_image(encode_image(image)).tobytes() == image.tobytes()


def test_grey_of_16_bits_is_scaled() -> None:
    image = Image.frombytes("I;16", (4, 1), struct.pack("<4H", 0, 257 * 100, 257 * 200, 65_535))
    assert decode(_png(image), MAX_PIXELS).tobytes() == bytes([0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.5, 1.0), (0, 128, 255)),
        ((0.0, 100.0, 255.0), (0, 100, 255)),
        ((float("-inf"), 50.0, float("inf")), (50, 50, 50)),
        ((float("nan"), 0.0, 300.0, float("inf")), (0, 0, 255, 255)),
        ((float("nan"), float("nan")), (0, 0)),
        ((-3e38, 0.0, 3e38), (0, 128, 255)),
    ],
)
def test_grey_of_floats_is_scaled(values: tuple[float, ...], expected: tuple[int, ...]) -> None:
    image = Image.frombytes("F", (len(values), 1), struct.pack(f"<{len(values)}f", *values))
    tiff = io.BytesIO()
    image.save(tiff, "TIFF")
    assert decode(tiff.getvalue(), MAX_PIXELS).getchannel(0).tobytes() == bytes(expected)


def _png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()
