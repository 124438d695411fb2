"""Generates a picture over MCP and has the vision-language model look at it.

    scripts/demo images [PROMPT]

Without a GPU: a real vLLM-Omni server runs on this machine's CPU and serves the bundled tiny model. With OMNI_URL set,
the server there is used instead.
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
    parser = argparse.ArgumentParser(prog="scripts/demo images", description="Generates a picture, then looks at it.")
    parser.add_argument("prompt", nargs="?", default=PROMPT, help=f"what the picture is to show (default: {PROMPT})")
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
        print(f"\nThe server says: {error}", file=sys.stderr)
        return 1
    return 0


def _show(client: StdioClient, prompt: str) -> None:
    model = client.call_tool("get_model_info", {})["structuredContent"]
    print(f"The image model is {model['model_name']}.\n\n  you    {prompt}")
    begun_s = time.monotonic()
    made = client.call_tool("generate_image", {"prompt": prompt}, _show_progress)
    facts = json.loads(made["content"][0]["text"])
    used = facts["parameters_used"]
    path = Path(facts["file_path"])
    print(f"\r{preview(path)}")
    print(
        f"         {used['width']}x{used['height']}, {used['steps']} steps, seed {used['seed']}: {ms_since(begun_s)} ms"
    )
    for note in facts.get("notes", []):
        print(f"         {note}")
    print(f"         saved as {path}\n")
    question = "What is in this image?"
    parts = [{"type": "text", "text": question}, {"type": "image", "path": str(path)}]
    messages = [{"role": "user", "content": parts}]
    seen = client.call_tool("chat_completion", {"messages": messages, "temperature": 0, "max_tokens": 64})
    print(f"  you    {question}  [{path.name}]\n  model  {seen['structuredContent']['text']}")


def _show_progress(progress: dict[str, Any]) -> None:
    """Keeps one line of a terminal up to date; elsewhere there is nothing to see until the picture is there."""
    if sys.stdout.isatty():
        print(f"         {progress['message']}", end="\r", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
