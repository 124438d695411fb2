"""Writes subtitles for a video, or for an audio file, with a speech model.

python examples/subtitles.py VIDEO [srt|vtt]

VLLM_ASR_MODEL names the model, e.g. openai/whisper-base. The file is written beside the video.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stdio_client import SERVER, StdioClient, ToolFailed

Json = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Writes the subtitles; returns the exit status."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return 0 if arguments else 2
    video, format = Path(arguments[0]).absolute(), "vtt" if "vtt" in arguments[1:] else "srt"
    try:
        with StdioClient([sys.executable, str(SERVER)], dict(os.environ)) as client:
            client.initialize()
            call = {"audio_path": str(video), "format": format}
            found = client.call_tool("transcribe_audio", call, _show)["structuredContent"]
            while found["status"] == "running":  # the call's time was up, the job goes on
                job = {"job_id": found["job_id"], "wait_s": 60}
                found = json.loads(client.call_tool("job_status", job, _show)["content"][0]["text"])
    except ToolFailed as error:
        print(f"\nThe server reports: {error}", file=sys.stderr)
        return 1
    target = video.with_suffix(f".{format}")
    target.write_text(found["subtitles"], encoding="utf-8")
    print(f"\n{target}: {len(found['segments'])} subtitles")
    return 0


def _show(progress: Json) -> None:
    if "total" in progress:
        print(f"\r{progress['progress']:.0f} of {progress['total']:.0f} s", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
