"""vLLM-Omni on the CPU through `scripts/omni-cpu`, with tiny models whose output is noise."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
from PIL import Image

from tests.e2e.omni_server import OmniServer

SMALL = {"prompt": "a cat", "size": "256x256", "num_inference_steps": 4, "guidance_scale": 1.0, "seed": 1}


def picture(server: OmniServer, **changes: Any) -> bytes:
    """A picture from the server, as the bytes of its PNG file."""
    answer = httpx.post(f"{server.url}/v1/images/generations", json={**SMALL, **changes}, timeout=120)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def test_pictures_are_valid_and_follow_the_seed(omni_image_server: OmniServer) -> None:
    first = picture(omni_image_server)
    with Image.open(io.BytesIO(first)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (256, 256))
    assert picture(omni_image_server) == first
    assert picture(omni_image_server, seed=2) != first
