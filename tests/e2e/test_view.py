"""The view of MCP Apps in a real Chromium, in hosts with the official AppBridge, with the real server behind them.

The servers of models are scripted ones. The screenshots of docs/view.md come from here:

    WRITE_SCREENSHOTS=1 .venv/bin/python -m pytest tests/e2e/test_view.py
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.e2e.server_process import ROOT
from tests.e2e.view_run import SCENARIOS, run_scenarios
from tests.scripted_omni import Request, ScriptedOmni, images_json
from tests.scripted_openai import Request as ChatRequest
from tests.scripted_openai import ScriptedOpenAI, piece, said, streams
from tests.scripted_speech import ScriptedSpeechServer
from tests.scripted_video import FROM_WORDS_MODEL, ScriptedVideoServer

Json = dict[str, Any]
Ran = tuple[dict[str, str | None], Path]
SLOW_S = 1.0
MAX_SCREENSHOT_BYTES = 150_000


def draw(request: Request, fields: Json) -> None:
    """Answers with a circle, whose place and colours the seed decides; a slow prompt takes a while."""
    if fields["prompt"].startswith("slow"):
        time.sleep(SLOW_S)
    width, height = map(int, fields["size"].split("x"))
    seed = fields["seed"]
    hue = seed * 7 % 256
    image = Image.new("HSV", (width, height), (hue, 110, 235))
    x, y, radius = (0.35 + seed % 30 / 100) * width, (0.4 + seed % 20 / 100) * height, 0.28 * height
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image).ellipse(box, ((hue + 128) % 256, 190, 190))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    request.answer(images_json(buffer.getvalue()))


def answer(request: ChatRequest, fields: Json) -> None:
    """Finds an image relevant whose middle is red; describes any."""
    if not fields.get("logprobs"):
        streams(*said("A", "shape", "on", "a", "background."))(request, fields)
        return
    (url,) = [part["image_url"]["url"] for part in fields["messages"][-1]["content"] if part["type"] == "image_url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    likely, unlikely = ("yes", "no") if pixel[0] > 2 * pixel[2] and pixel[0] > 2 * pixel[1] else ("no", "yes")
    top = [{"token": likely, "logprob": -0.1}, {"token": unlikely, "logprob": -2.4}]
    streams(piece("stop", [{**top[0], "top_logprobs": top}], content=likely), "[DONE]")(request, fields)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """What failed in each scenario, and the folder with the screenshots. All scenarios share one browser."""
    folder = tmp_path_factory.mktemp("view")
    with (
        ScriptedOmni() as omni,
        ScriptedVideoServer() as portraits,
        ScriptedVideoServer(FROM_WORDS_MODEL) as videos,
        ScriptedSpeechServer() as voices,
        ScriptedOpenAI() as models,
    ):
        omni.script(draw)
        portraits.n_polls = videos.n_polls = 1
        models.script(answer)
        settings = {
            "OMNI_URL": omni.url,
            "OMNI_VIDEO_URL": portraits.url,
            "OMNI_VIDEO_MODELS": f"words={videos.url}",
            "OMNI_SPEECH_URL": voices.url,
            "VLLM_BASE_URL": models.url,
        }
        return run_scenarios(SCENARIOS, settings, folder), folder


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_view(ran: Ran, scenario: str) -> None:
    failure = ran[0][scenario]
    assert failure is None, failure


@pytest.mark.parametrize("name", ["light.png", "dark.png"])
def test_screenshot_is_small_and_as_large_as_in_the_documentation(ran: Ran, name: str) -> None:
    drawn, kept = ran[1] / name, ROOT / "docs" / f"view-{name}"
    if os.environ.get("WRITE_SCREENSHOTS"):
        shutil.copy(drawn, kept)
    assert 5_000 < kept.stat().st_size <= MAX_SCREENSHOT_BYTES
    with Image.open(drawn) as now, Image.open(kept) as before:
        assert now.size == before.size
