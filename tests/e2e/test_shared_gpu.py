"""One GPU for two, as far as a machine without one goes: what a real vLLM-Omni answers, and that images go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from omni.client import OmniClient
from omni.files.metadata import png_size
from omni.sleep import SleepClient, Slept
from tests.e2e.media_answers import facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_gpu import needs_cpu_backend

REFUSED_SLEEP = "cumem allocator is not available"
"""What the server logs for each request to sleep."""
FIELDS = {"prompt": "a", "size": "64x64", "num_inference_steps": 1, "guidance_scale": 1.0, "seed": 1}


@needs_cpu_backend
def test_server_that_cannot_sleep_says_so_and_makes_images_afterwards(omni_image_server: OmniServer) -> None:
    """vLLM-Omni 0.30 lets every request wait after a sleep that failed, until it is told to wake up."""

    async def run() -> tuple[str | None, Slept, bytes]:
        client = SleepClient(omni_image_server.url, 60.0)
        awake = await client.wake_up()
        slept = await client.sleep()
        image = await OmniClient(omni_image_server.url, 60.0).generate(FIELDS, 64 * 64)
        return awake, slept, image.data

    awake, slept, image = asyncio.run(run())
    assert awake is None
    assert slept == Slept(0, "cumem allocator is not available")
    assert png_size(image) == (64, 64)


@needs_cpu_backend
def test_without_a_gpu_auto_asks_nobody_to_sleep(omni_image_server: OmniServer, tmp_path: Path) -> None:
    n_before = omni_image_server.log.count(REFUSED_SLEEP)
    settings = {
        "VLLM_SHARE_GPU": "auto",
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path / "out"),
    }
    with ServerProcess(settings) as server:
        server.initialize()
        small = {"width": 64, "height": 64, "num_inference_steps": 1, "guidance_scale": 1.0}
        for _ in range(2):
            server.result("chat_completion", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4})
            assert facts(server, "generate_image", {"prompt": "a", **small})["status"] == "success"
        assert server.result("get_gpu_status")["state"] == "ready"
    assert omni_image_server.log.count(REFUSED_SLEEP) == n_before
