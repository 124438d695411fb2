"""The view in a real Chromium, with images from a real vLLM-Omni on the CPU and a tiny random model."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.omni_server import OmniServer
from tests.e2e.view_run import run_scenarios

SCENARIOS = (
    "the official helpers find views, app-only tools and the page",
    "another seed, zoom, and what the model is told",
    "four variations, keys, the choice and saving, in the dark",
    "a running job is cancelled",
    "no other error in the console, and no breach of the policy",
)


def test_images_of_a_real_server_are_made_and_cancelled_in_the_view(
    omni_image_server: OmniServer, tmp_path: Path
) -> None:
    failures = run_scenarios(SCENARIOS, {"OMNI_URL": omni_image_server.url}, tmp_path)
    assert failures == dict.fromkeys(SCENARIOS)
