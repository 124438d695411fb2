"""vLLM-Omni on the CPU through `scripts/omni-cpu`: images, by tiny models whose output is noise."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.omni_server import ROOT, SCRIPT, OmniServer
from tests.e2e.processes import assert_all_end

SMALL = {"prompt": "a cat", "size": "256x256", "num_inference_steps": 4, "guidance_scale": 1.0, "seed": 1}
LONG = {**SMALL, "size": "512x512", "num_inference_steps": 200}
"""It takes half a minute at least."""
FREED_S = 4.0
"""The contract's 2 seconds from a cancelled request to the next answer, and as much again for a busy machine."""
ENDED_S = 4.0
"""Likewise from a signal to the end."""


def script(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What `scripts/omni-cpu` does with arguments with which it does not serve."""
    return subprocess.run([SCRIPT, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def generated(server: OmniServer, **changes: Any) -> bytes:
    """An image from the server, as the bytes of its PNG file."""
    answer = httpx.post(f"{server.url}/v1/images/generations", json={**SMALL, **changes}, timeout=120)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def assert_image(data: bytes, size: tuple[int, int]) -> None:
    """The bytes are a PNG file of that size."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", size)


@pytest.fixture(scope="module")
def qwen_server(omni_environment: None) -> Iterator[OmniServer]:
    """A Qwen-Image for this module; its last test ends it."""
    with OmniServer("qwen-image") as server:
        yield server


@pytest.fixture(scope="module")
def z_image_server(omni_environment: None) -> Iterator[OmniServer]:
    """A Z-Image for this module; its last test kills it."""
    with OmniServer("z-image") as server:
        yield server


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port",), "--port needs a value"),
        (("--port", "65536"), "--port is a number from 1 to 65535, not 65536"),
        (("--port=x",), "not x"),
        (("--tiny", "dall-e"), "no tiny model dall-e"),
        (("--enforce-eager",), "unknown option --enforce-eager"),
        (("/nowhere/model",), "there is no folder /nowhere/model"),
        (("./nowhere",), "there is no folder ./nowhere"),
        (("one/model", "another/model"), "one model a server"),
        (("--video", "one/model"), "either one/model or a tiny model"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_installed(arguments: Sequence[str], said: str) -> None:
    run = script(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert run.stdout == ""


def test_help_names_every_option() -> None:
    run = script("--help")
    assert run.returncode == 0
    for option in ("--video", "--tiny", "--port", "--host", "--setup-only", "-- ARGUMENT"):
        assert option in run.stdout


def test_complete_environment_is_left_alone(omni_environment: None, tmp_path: Path) -> None:
    stamp = ROOT / ".venv-omni" / "setup.done.run"
    before = stamp.stat().st_mtime_ns
    began_s = time.monotonic()
    run = script("--setup-only", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert time.monotonic() - began_s < 5
    assert stamp.stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading_ends_at_once(
    omni_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = OmniServer("klein")
    while not list(tmp_path.glob("omni-cpu-videos-*")):
        assert server.process.poll() is None, server.log
        time.sleep(0.05)
    began_s = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(30) == 128 + number
    assert time.monotonic() - began_s < ENDED_S
    assert list(tmp_path.iterdir()) == []
    server.kill()


def test_taken_port_is_named_at_once(omni_image_server: OmniServer) -> None:
    run = script("--tiny", "klein", "--port", str(omni_image_server.port))
    assert run.returncode == 1
    assert f"cannot listen at 127.0.0.1, port {omni_image_server.port}: Address already in use" in run.stderr


def test_server_says_where_it_is_and_that_its_output_is_noise(omni_image_server: OmniServer) -> None:
    assert "a tiny klein with random weights: it generates noise" in omni_image_server.log
    assert f"ready at {omni_image_server.url} " in omni_image_server.log
    assert f"OMNI_URL={omni_image_server.url}" in omni_image_server.log


def listening_addresses(pid: int) -> set[str]:
    """The addresses at which a process listens, in the kernel's hexadecimal form."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


def test_only_this_machine_can_reach_the_server(omni_image_server: OmniServer) -> None:
    assert listening_addresses(omni_image_server.pid) == {"0100007F"}  # 127.0.0.1


def test_model_is_listed_by_its_folder(omni_image_server: OmniServer) -> None:
    models = httpx.get(f"{omni_image_server.url}/v1/models").json()
    assert [Path(model["id"]).name for model in models["data"]] == ["tiny-klein"]


def test_images_are_valid_and_follow_the_seed(omni_image_server: OmniServer) -> None:
    first = generated(omni_image_server)
    assert_image(first, (256, 256))
    assert generated(omni_image_server) == first
    assert generated(omni_image_server, seed=2) != first


def test_image_is_edited(omni_image_server: OmniServer) -> None:
    image = generated(omni_image_server)
    fields = {name: str(value) for name, value in SMALL.items()}
    answer = httpx.post(
        f"{omni_image_server.url}/v1/images/edits",
        data=fields,
        files={"image": ("image.png", image, "image/png")},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    edited = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert_image(edited, (256, 256))
    assert edited != image


def test_peak_memory_is_the_process_s_own(omni_image_server: OmniServer) -> None:
    answer = httpx.post(f"{omni_image_server.url}/v1/images/generations", json=SMALL, timeout=120).json()
    assert 300 < answer["metrics"]["peak_memory_mb"] < 4000


def assert_freed_after_disconnect(server: OmniServer, **changes: Any) -> None:
    """A client that goes away in the middle of a long image leaves a server that answers the next one soon."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/images/generations", json={**LONG, **changes}, timeout=1.5)
    began_s = time.monotonic()
    generated(server, size="64x64", num_inference_steps=1)
    assert time.monotonic() - began_s < FREED_S


def test_disconnecting_stops_the_work(omni_image_server: OmniServer) -> None:
    assert_freed_after_disconnect(omni_image_server)


def test_qwen_image_draws_away_from_the_negative_prompt(qwen_server: OmniServer) -> None:
    guided = generated(qwen_server, true_cfg_scale=4.0, negative_prompt="a dog")
    assert_image(guided, (256, 256))
    assert generated(qwen_server, true_cfg_scale=4.0, negative_prompt="a bird") != guided
    assert generated(qwen_server) != guided


def test_disconnecting_stops_qwen_image_too(qwen_server: OmniServer) -> None:
    assert_freed_after_disconnect(qwen_server, true_cfg_scale=4.0, negative_prompt="a dog")


def test_signal_in_the_middle_of_an_image_ends_everything(qwen_server: OmniServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", qwen_server.port)
    client.request("POST", "/v1/images/generations", json.dumps(LONG), {"content-type": "application/json"})
    qwen_server.wait_until_working()
    started = qwen_server.processes()
    began_s = time.monotonic()
    assert qwen_server.stop() == 0
    assert time.monotonic() - began_s < ENDED_S
    assert_all_end(started)
    client.close()


def test_z_image_is_served_by_the_class_of_diffusers(z_image_server: OmniServer) -> None:
    first = generated(z_image_server, guidance_scale=0.0)
    assert_image(first, (256, 256))
    assert generated(z_image_server, guidance_scale=0.0) == first


def test_nothing_outlives_a_killed_server(z_image_server: OmniServer) -> None:
    started = z_image_server.processes()
    z_image_server.kill_alone()
    assert_all_end(started)
