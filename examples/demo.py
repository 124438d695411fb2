"""Shows a vision-language model at work over MCP: starts the server, asks it about pictures, prints the conversation.

    scripts/demo [PICTURE ...]
    scripts/demo images [PROMPT]
    scripts/demo video [PICTURE [AUDIO]]

Without an argument it draws a picture of its own. Answers appear as they are generated: each piece is one progress
notification. `images` generates a picture instead, `video` makes one talk; see demo_images.py and demo_video.py.
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
from terminal import ms_since, preview, why_no_picture

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"
DEMO_MODEL = "demo-vlm"
LIMITS = "The bundled model knows only drawings of circles, squares and triangles; of other pictures it says anything."


def main() -> int:
    """Runs the demo; returns the exit status."""
    if sys.argv[1:2] == ["images"]:
        return demo_images.main(sys.argv[2:])
    if sys.argv[1:2] == ["video"]:
        return demo_video.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Asks a vision-language model about pictures.",
        epilog="scripts/demo images [PROMPT] generates a picture instead, scripts/demo video makes one talk.",
    )
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE", help="a picture file of yours")
    pictures = [path.expanduser().resolve() for path in parser.parse_args().pictures]
    for path in pictures:
        if problem := why_no_picture(path):
            parser.error(problem)
    try:
        with tempfile.TemporaryDirectory() as folder:
            log_file = os.environ.get("VLLM_LOG_FILE", str(Path(folder) / "server.log"))
            _converse(_drawn_picture(Path(folder) / "drawn.png"), pictures, log_file)
    except ToolFailed as error:
        print(f"\nThe server says: {error}", file=sys.stderr)
        return 1
    return 0


def _converse(drawn: Path, given: list[Path], log_file: str) -> None:
    started_s = time.monotonic()
    env = {**os.environ, "VLLM_LOG_FILE": log_file}  # libraries that vLLM loads print warnings between the lines
    with StdioClient([sys.executable, str(SERVER)], env) as client:
        server = client.initialize()["serverInfo"]
        print(f"{server['name']} {server['version']} answered initialize after {ms_since(started_s)} ms.\n")
        is_bundled = client.call_tool("model_info", {})["structuredContent"]["model_name"] == DEMO_MODEL
        for picture in (drawn, *given):
            print(preview(picture))
            show = {"type": "image", "path": str(picture)}
            _ask(client, [{"type": "text", "text": "What is in this image?"}, show], picture.name)
            if is_bundled and picture in given:
                print(f"  note   {LIMITS}\n")
        _ask(client, "My name is Ada.", session_id="demo")
        _ask(client, "What is my name?", session_id="demo")
        information = client.call_tool("model_info", {})["structuredContent"]
    print(
        f"The model is {information['model_name']}, run by vLLM {information['vllm_version']} on this machine's", end=""
    )
    print(f" {information['device']}.\nTo use a real one, set VLLM_MODEL_NAME; see README.md.")


def _ask(client: StdioClient, content: Any, picture: str | None = None, session_id: str | None = None) -> None:
    text = content if isinstance(content, str) else content[0]["text"]
    print(f"  you    {text}" + (f"  [{picture}]" if picture else ""))
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
    """Prints new text as it comes; the phases of a load, which come before any token, go above it."""
    if progress["progress"] < 1:
        print(f"({progress['message']}) ", end="", flush=True)
    else:
        print(progress["message"], end="", flush=True)


def _drawn_picture(path: Path) -> Path:
    picture = Image.new("RGB", (480, 320), "blue")
    ImageDraw.Draw(picture).ellipse((150, 70, 330, 250), fill="red")
    picture.save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
