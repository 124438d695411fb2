"""Generates an image over MCP and asks the vision-language model about it.

    scripts/demo images [PROMPT]

A vLLM-Omni server runs on this machine's CPU and serves the bundled tiny model. If OMNI_URL is set, the server at that
URL is used instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni_process import OmniFailed, omni_url
from stdio_client import StdioClient, ToolFailed
from terminal import ms_since, preview

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"
PROMPT = "a red circle on a blue background"


def main(arguments: Sequence[str]) -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/demo images", description="Generates an image, then asks about it.")
    parser.add_argument("prompt", nargs="?", default=PROMPT, help=f"describes the image (default: {PROMPT})")
    prompt = parser.parse_args(arguments).prompt
    try:
        with tempfile.TemporaryDirectory() as folder, omni_url(Path(folder) / "omni.log") as url:
            log_file = os.environ.get("VLLM_LOG_FILE", str(Path(folder) / "server.log"))
            with StdioClient(
                [sys.executable, str(SERVER)], {**os.environ, "OMNI_URL": url, "VLLM_LOG_FILE": log_file}
            ) as client:
                client.initialize()
                _show(client, prompt)
    except (ToolFailed, OmniFailed) as error:
        print(f"\nThe server reports: {error}", file=sys.stderr)
        return 1
    return 0


def _show(client: StdioClient, prompt: str) -> None:
    model = client.call_tool("get_model_info", {})["structuredContent"]
    print(f"The image model is {model['model_name']}.\n\n  you    {prompt}")
    began_s = time.monotonic()
    result = client.call_tool("generate_image", {"prompt": prompt}, _show_progress)
    facts = json.loads(result["content"][0]["text"])
    used = facts["parameters_used"]
    path = Path(facts["file_path"])
    print(f"\r{preview(path)}")
    print(
        f"         {used['width']}x{used['height']}, {used['steps']} steps, seed {used['seed']}: {ms_since(began_s)} ms"
    )
    for note in facts.get("notes", []):
        print(f"         {note}")
    print(f"         saved as {path}\n")
    question = "What is in this image?"
    parts = [{"type": "text", "text": question}, {"type": "image", "path": str(path)}]
    messages = [{"role": "user", "content": parts}]
    answer = client.call_tool("chat_completion", {"messages": messages, "temperature": 0, "max_tokens": 64})
    print(f"  you    {question}  [{path.name}]\n  model  {answer['structuredContent']['text']}")


def _show_progress(progress: dict[str, Any]) -> None:
    """Updates one line of a terminal; prints nothing elsewhere."""
    if sys.stdout.isatty():
        print(f"         {progress['message']}", end="\r", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
