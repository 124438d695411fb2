"""Generates images on a running vLLM-Omni server and asks the bundled vision model what they show.

`python judge.py --url http://127.0.0.1:8000 --prompts 50` prints a table. The vision model answers through this
project's own server, over MCP. With `--painted` the images are those
of the training: this measures the judge's own errors.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captions import UNSEEN_WORDINGS, USUAL, caption, phrase, random_names
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from stdio_client import StdioClient  # noqa: E402

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple", "pink", "gray")
QUESTION = "What is in this image?"
ASKED_AT_ONCE, SHEET_COLUMNS = 32, 10
Names = tuple[str, str, str]


@dataclass(frozen=True)
class Sample:
    """A prompt, the names in it (colour, shape, background) and the seed of its noise."""

    prompt: str
    names: Names
    seed: int


def samples(wording: str, count: int, seed: int) -> Iterator[Sample]:
    """`count` random prompts in the `usual` wording, in those of the training (`any`) or in `unseen` ones."""
    rng = random.Random(f"{seed}/{wording}")
    for number in range(count):
        names = random_names(rng, COLOURS, SHAPES)
        if wording == "any":
            prompt = caption(rng, *names)
        else:
            prompt = phrase(USUAL if wording == "usual" else rng.choice(UNSEEN_WORDINGS), *names)
        yield Sample(prompt, names, seed * 100_000 + number)


def generate(url: str, sample: Sample, size: str, steps: int) -> bytes:
    """The PNG file that the server generates from the prompt."""
    body = {
        "prompt": sample.prompt,
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": 1.0,
        "seed": sample.seed,
    }
    request = urllib.request.Request(
        f"{url}/v1/images/generations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return base64.b64decode(json.load(reply)["data"][0]["b64_json"])


def painted(sample: Sample, size: str) -> bytes:
    """The PNG file of an image painted as for training."""
    import torch
    from sheets import to_images
    from world import COLOUR_NAMES, FREE_NUMBERS, Scenes, paint

    colour, shape, ground = sample.names
    kind, colour_at, ground_at = (
        torch.tensor([place]) for place in (SHAPES.index(shape), COLOUR_NAMES.index(colour), COLOUR_NAMES.index(ground))
    )
    numbers = torch.rand(1, FREE_NUMBERS, generator=torch.Generator().manual_seed(sample.seed))
    width, height = map(int, size.split("x"))
    file = io.BytesIO()
    image = paint(Scenes(kind, colour_at, ground_at, numbers), width, height)
    to_images(image)[0].save(file, "PNG")
    return file.getvalue()


def describe(images: list[bytes]) -> list[str]:
    """The vision model's description of each image."""
    answers: list[str] = []
    with StdioClient([sys.executable, str(ROOT / "vllm_server.py"), "--log-level", "ERROR"]) as server:
        server.initialize()
        for start in range(0, len(images), ASKED_AT_ONCE):
            conversations = [
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "data": base64.b64encode(image).decode()},
                            {"type": "text", "text": QUESTION},
                        ],
                    }
                ]
                for image in images[start : start + ASKED_AT_ONCE]
            ]
            arguments = {"conversations": conversations, "temperature": 0.0, "seed": 0, "max_tokens": 64}
            results = server.call_tool("chat_completion_batch", arguments)["structuredContent"]["results"]
            answers += [str(item["text"] or item["error"]).strip() for item in results]
    return answers


def understood(answer: str) -> Names | None:
    """Colour, shape and background as a description of one shape names them."""
    found = re.fullmatch(
        r"(?:there is )?an? (\w+) (\w+) on an? (\w+) background\.?", answer.lower().replace("grey", "gray")
    )
    return (found[1], found[2], found[3]) if found else None


def table(expected: list[Names], answers: list[str]) -> str:
    """How often each name, and all of them, are the prompt's."""
    right: Counter[str] = Counter()
    for names, answer in zip(expected, answers, strict=True):
        told = understood(answer) or ("", "", "")
        right["all three"] += told == names
        for part, name, said in zip(("colour", "shape", "background"), names, told, strict=True):
            right[part] += name == said
    rows = [
        f"| {part} | {right[part]} of {len(answers)} | {100 * right[part] / len(answers):.1f} % |"
        for part in ("colour", "shape", "background", "all three")
    ]
    return "\n".join(["| agrees in | pictures | share |", "|---|---|---|", *rows])


def save_overview(images: list[bytes], path: Path) -> None:
    """All images on one sheet."""
    opened = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
    width, height = opened[0].size
    sheet = Image.new("RGB", (width * SHEET_COLUMNS, height * -(-len(opened) // SHEET_COLUMNS)))
    for number, tile in enumerate(opened):
        sheet.paste(tile, (number % SHEET_COLUMNS * width, number // SHEET_COLUMNS * height))
    sheet.save(path)


def main() -> None:
    """Reads the command line, generates, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--url", help="address of the vLLM-Omni server that serves this folder")
    source.add_argument("--painted", action="store_true", help="judge pictures painted as for training")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--wording", choices=("usual", "any", "unseen"), default="usual")
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="also write all pictures to this PNG file")
    parser.add_argument("--show-wrong", action="store_true", help="print the descriptions that do not agree")
    arguments = parser.parse_args()

    asked = list(samples(arguments.wording, arguments.prompts, arguments.seed))
    started = time.monotonic()
    if arguments.painted:
        images = [painted(sample, arguments.size) for sample in asked]
    else:
        images = [generate(arguments.url, sample, arguments.size, arguments.steps) for sample in asked]
    seconds = (time.monotonic() - started) / len(asked)
    if arguments.sheet:
        save_overview(images, arguments.sheet)
    answers = describe(images)
    if arguments.show_wrong:
        for number, (sample, answer) in enumerate(zip(asked, answers, strict=True)):
            if understood(answer) != sample.names:
                print(f"  picture {number}: {sample.prompt!r} is described as {answer!r}")
    print(table([sample.names for sample in asked], answers))
    print(f"{seconds:.2f} s a picture")


if __name__ == "__main__":
    main()
