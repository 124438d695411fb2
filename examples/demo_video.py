"""Generates a talking video over MCP from a drawn face and a synthetic voice.

    scripts/demo video [IMAGE [AUDIO]]

A vLLM-Omni server runs on this machine's CPU and serves a tiny model with random weights, so the video shows noise and
has the right audio. If OMNI_VIDEO_URL is set, the server at that URL is used instead.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import struct
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni_process import OmniFailed, omni_url
from PIL import Image, ImageDraw
from stdio_client import StdioClient, ToolFailed
from terminal import image_problem, ms_since, preview

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"
RATE = 16_000
VOWELS = ((730, 1_090, 2_440), (270, 2_290, 3_010), (300, 870, 2_240), (530, 1_840, 2_480))
"""The lowest three formants in Hz of a, i, u and e, of a male voice (Peterson and Barney, 1952)."""
TINY_NAMES = "tiny-"


def main(arguments: Sequence[str]) -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/demo video", description="Generates a talking video.")
    parser.add_argument("image", nargs="?", type=Path, help="an image of a face (default: a drawn one)")
    parser.add_argument("audio", nargs="?", type=Path, help="an audio file with speech (default: four vowels)")
    given = parser.parse_args(arguments)
    if given.image and (problem := image_problem(given.image.expanduser())):
        parser.error(problem)
    if given.audio and not given.audio.expanduser().is_file():
        parser.error(f"there is no file {given.audio}")
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            omni_url(Path(folder) / "omni.log", "--video", variable="OMNI_VIDEO_URL") as url,
        ):
            image = given.image.expanduser().resolve() if given.image else _draw_face(Path(folder) / "face.png")
            audio = given.audio.expanduser().resolve() if given.audio else _synthesize_voice(Path(folder) / "voice.wav")
            log_file = os.environ.get("VLLM_LOG_FILE", str(Path(folder) / "server.log"))
            environment = {**os.environ, "OMNI_VIDEO_URL": url, "VLLM_LOG_FILE": log_file}
            with StdioClient([sys.executable, str(SERVER)], environment) as client:
                client.initialize()
                _show(client, {"image_path": str(image), "audio_path": str(audio)}, Path(folder))
    except (ToolFailed, OmniFailed) as error:
        print(f"\nThe server reports: {error}", file=sys.stderr)
        return 1
    return 0


def _show(client: StdioClient, arguments: dict[str, Any], folder: Path) -> None:
    print(f"{preview(Path(arguments['image_path']))}\n")
    began_s = time.monotonic()
    content = client.call_tool("process_image_to_video", arguments, _show_progress)["content"]
    facts = json.loads(content[0]["text"])
    poster = folder / "poster.jpg"
    poster.write_bytes(base64.b64decode(content[1]["data"]))
    print(f"\r{preview(poster)}")
    print(
        f"         {facts['served_model']}: {facts['resolution']}, {facts['frames']} frames, "
        f"{facts['duration_seconds']} s for {facts['audio_duration_seconds']} s of audio, seed {facts['seed']}: "
        f"{ms_since(began_s)} ms"
    )
    for note in facts.get("notes", []):
        print(f"         {note}")
    if facts["served_model"].startswith(TINY_NAMES):
        print("         The weights of this model are random, so it shows noise; a real one is Wan-AI/Wan2.2-S2V-14B.")
    print(f"         saved as {facts['output_path']}")


def _show_progress(progress: dict[str, Any]) -> None:
    """Updates one line of a terminal; prints nothing elsewhere."""
    if sys.stdout.isatty():
        print(f"         {progress['message']}", end="\r", flush=True)


def _draw_face(path: Path) -> Path:
    image = Image.new("RGB", (480, 480), (90, 140, 190))
    draw = ImageDraw.Draw(image)
    draw.ellipse((90, 60, 390, 420), fill=(240, 200, 165))
    for x in (175, 275):
        draw.ellipse((x, 180, x + 34, 214), fill="white")
        draw.ellipse((x + 10, 190, x + 26, 206), fill=(60, 40, 30))
    draw.polygon((240, 220, 222, 290, 258, 290), fill=(220, 170, 135))
    draw.chord((180, 310, 300, 370), 0, 180, fill=(170, 60, 60))
    image.save(path)
    return path


def _synthesize_voice(path: Path, seconds: float = 2.0, pitch_hz: float = 120.0) -> Path:
    """Four vowels: harmonics of a pitch, louder the nearer they are to one of the vowel's formants."""
    harmonics = [pitch_hz * number for number in range(1, int(4_000 / pitch_hz))]
    samples = []
    n_samples = int(seconds * RATE)
    for vowel_number, formants in enumerate(VOWELS):
        loudness = [sum(1 / (1 + ((hz - formant) / 90) ** 2) for formant in formants) for hz in harmonics]
        length = n_samples // len(VOWELS)
        for n in range(length):
            swell = math.sin(math.pi * n / length)
            time_s = (vowel_number * length + n) / RATE
            waves = zip(loudness, harmonics, strict=True)
            value = sum(level * math.sin(2 * math.pi * hz * time_s) for level, hz in waves)
            samples.append(int(6_000 * swell * max(-4, min(4, value))))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
