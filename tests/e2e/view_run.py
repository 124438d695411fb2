"""Runs scenarios of the view in one browser; `views/scenarios.mjs` has them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.chromium import chromium_folder
from tests.e2e.images import drawn, png
from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import ROOT
from tests.unit.media.sample_media import audio_file

Json = dict[str, Any]
PROGRAM = Path(__file__).parent / "views" / "scenarios.mjs"
SCENARIOS = re.findall(r"^  (?:async )?\"(.+?)\"(?:\(\) \{|: )", PROGRAM.read_text("utf-8"), re.MULTILINE)
RUN_S = 200


def run_scenarios(scenarios: Sequence[str], settings: Mapping[str, str], folder: Path) -> dict[str, str | None]:
    """What failed in each scenario, `None` if nothing did. The folder gets the screenshots.

    Skips the calling test where no registry of npm can be reached, or Chromium does not run on this machine.
    """
    environment = node_environment("apps")
    browser = chromium_folder(environment)
    program = folder / "program"
    program.mkdir()
    run = subprocess.run(
        [*environment.program(PROGRAM, program), browser, folder, sys.executable, ROOT / "vllm_server.py"],
        input=json.dumps(
            {
                "environment": {"PATH": os.environ["PATH"], "OMNI_OUTPUT_DIR": str(folder / "out"), **settings},
                "media": _media(folder),
                "scenarios": scenarios,
            }
        ),
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    print(run.stderr)
    assert run.returncode == 0, run.stderr
    failures: dict[str, str | None] = json.loads(run.stdout)
    return failures


def _media(folder: Path) -> Json:
    """Paths of three images, of which one shows a red circle, and of a voice."""
    images = [drawn("blue", "circle", "red"), drawn("white", "square", "blue"), drawn("yellow", "circle", "green")]
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(png(image))
    (folder / "voice.mp3").write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=1))
    paths = [str(folder / f"{number}.png") for number in range(len(images))]
    return {"images": paths, "image": paths[0], "audio": str(folder / "voice.mp3")}
