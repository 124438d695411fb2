"""Demonstrates a vision-language model over MCP: starts the server, asks about images, prints the conversation.

    scripts/demo [IMAGE ...]
    scripts/demo images [PROMPT]
    scripts/demo video [IMAGE [AUDIO]]

Without an argument it draws an image. Text is printed as it is generated: each piece is one progress notification.
`images` generates an image, `video` a talking video; see demo_images.py and demo_video.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import demo_images
import demo_video
from PIL import Image, ImageDraw
from stdio_client import StdioClient, ToolFailed
from terminal import image_problem, ms_since, preview

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"
DEMO_MODEL = "demo-vlm"
LIMITS = (
    "The bundled model knows only drawings of circles, squares and triangles; what it says of others means nothing."
)


def main() -> int:
    """Runs the demo; returns the exit status."""
    if sys.argv[1:2] == ["images"]:
        return demo_images.main(sys.argv[2:])
    if sys.argv[1:2] == ["video"]:
        return demo_video.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Asks a vision-language model about images.",
        epilog="scripts/demo images [PROMPT] generates an image, scripts/demo video a talking video.",
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="an image file")
    images = [path.expanduser().resolve() for path in parser.parse_args().images]
    for path in images:
        if problem := image_problem(path):
            parser.error(problem)
    try:
        with tempfile.TemporaryDirectory() as folder:
            log_file = os.environ.get("VLLM_LOG_FILE", str(Path(folder) / "server.log"))
            _run_conversation(_draw_image(Path(folder) / "drawn.png"), images, log_file)
    except ToolFailed as error:
        print(f"\nThe server reports: {error}", file=sys.stderr)
        return 1
    return 0


def _run_conversation(drawn: Path, given: list[Path], log_file: str) -> None:
    started_s = time.monotonic()
    env = {**os.environ, "VLLM_LOG_FILE": log_file}  # vLLM's libraries would print warnings between the lines
    with StdioClient([sys.executable, str(SERVER)], env) as client:
        server = client.initialize()["serverInfo"]
        print(f"{server['name']} {server['version']} answered initialize after {ms_since(started_s)} ms.\n")
        is_bundled = client.call_tool("model_info", {})["structuredContent"]["model_name"] == DEMO_MODEL
        for image in (drawn, *given):
            print(preview(image))
            image_part = {"type": "image", "path": str(image)}
            _ask(client, [{"type": "text", "text": "What is in this image?"}, image_part], image.name)
            if is_bundled and image in given:
                print(f"  note   {LIMITS}\n")
        _ask(client, "My name is Ada.", session_id="demo")
        _ask(client, "What is my name?", session_id="demo")
        information = client.call_tool("model_info", {})["structuredContent"]
    print(
        f"The model is {information['model_name']}, run by vLLM {information['vllm_version']} on this machine's", end=""
    )
    print(f" {information['device']}.\nTo use another model, set VLLM_MODEL_NAME; see README.md.")


def _ask(client: StdioClient, content: Any, image: str | None = None, session_id: str | None = None) -> None:
    text = content if isinstance(content, str) else content[0]["text"]
    print(f"  you    {text}" + (f"  [{image}]" if image else ""))
    print("  model  ", end="", flush=True)
    arguments = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 64}
    if session_id is not None:
        arguments["session_id"] = session_id
    result = client.call_tool("chat_completion", arguments, _show_progress)["structuredContent"]
    timings, usage = result["timings"], result["usage"]
    if timings["load_ms"]:
        print(f"\n         loaded the model in {timings['load_ms'] / 1000:.1f} s", end="")
    answer_ms = timings["total_ms"] - timings["load_ms"] - timings["queue_ms"]
    print(f"\n         {usage['completion_tokens']} tokens in {answer_ms:.0f} ms")
    print(f"         first token after {timings['first_token_ms']:.0f} ms\n" if timings["first_token_ms"] else "")


def _show_progress(progress: dict[str, Any]) -> None:
    """Prints new text; before the first token, prints the phases of loading the model."""
    if progress["progress"] < 1:
        print(f"({progress['message']}) ", end="", flush=True)
    else:
        print(progress["message"], end="", flush=True)


def _draw_image(path: Path) -> Path:
    image = Image.new("RGB", (480, 320), "blue")
    ImageDraw.Draw(image).ellipse((150, 70, 330, 250), fill="red")
    image.save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
