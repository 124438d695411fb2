"""The baseline of the engine benchmarks: `vllm.LLM.chat` in a separate process, with the server's engine arguments.

    python -m benchmarks.raw_engine     one JSON line in: `Question`; one out: `Answer`

The arguments and the environment of vLLM come from the functions that the server's engine uses. Only `LLM.chat` is
timed: reading the line, decoding images to PIL images and writing the answer are not measured.
"""

from __future__ import annotations

import base64
import io
import os
import time
from typing import Any

import msgspec
from PIL import Image

import settings
from benchmarks.pipe_server import Json
from engine.local import engine_args
from mcp_protocol import stdio
from operating_system.machine import free_memory_bytes
from operating_system.waiter import READ_BYTES


class Question(msgspec.Struct, frozen=True):
    """Conversations for one call of `LLM.chat`, greedy; with `ignore_eos` each of exactly `max_tokens` tokens."""

    conversations: list[list[Json]]
    max_tokens: int
    ignore_eos: bool = True
    decoded: bool = True
    """Whether images are given to vLLM as PIL images, or as they came, for vLLM to decode."""


class Answer(msgspec.Struct, frozen=True):
    """What was said, and how long it took as the asker sees it."""

    seconds: float
    texts: list[str]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


def main() -> None:
    """Loads the model, says so in an empty line, and answers until stdin ends."""
    wire = stdio.redirect_standard_streams()
    llm = load()
    wire.write(b"\n")
    splitter = stdio.LineSplitter(1 << 30)
    while data := os.read(wire.in_fd, READ_BYTES):
        for line in splitter.feed(data):
            assert isinstance(line, bytes)
            wire.write(msgspec.json.encode(chat(llm, msgspec.json.decode(line, type=Question))) + b"\n")


def load() -> Any:
    """The engine as the server would load it."""
    engine_settings = settings.initialize(os.environ, {}).engine
    engine_args.prepare_environment(engine_settings, "WARNING", os.environ)
    from vllm import LLM
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    free_bytes = free_memory_bytes() or 0
    return LLM(**engine_args.llm_arguments(engine_settings, on_cpu=on_cpu, free_bytes=free_bytes, for_adapters={}))


def chat(llm: Any, question: Question) -> Answer:
    """One call of `LLM.chat`, measured."""
    from vllm import SamplingParams

    conversations = question.conversations
    if question.decoded:
        conversations = [[_decoded(message) for message in messages] for messages in conversations]
    sampling = SamplingParams(temperature=0.0, max_tokens=question.max_tokens, ignore_eos=question.ignore_eos)
    started_s = time.perf_counter()
    outputs = llm.chat(conversations, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started_s
    cached = [output.num_cached_tokens for output in outputs]
    return Answer(
        seconds,
        [output.outputs[0].text for output in outputs],
        sum(len(output.prompt_token_ids) for output in outputs),
        sum(len(output.outputs[0].token_ids) for output in outputs),
        None if None in cached else sum(cached),
    )


def _decoded(message: Json) -> Json:
    if isinstance(message["content"], str):
        return message
    return {**message, "content": [_decoded_part(part) for part in message["content"]]}


def _decoded_part(part: Json) -> Json:
    if part["type"] != "image_url":
        return part
    data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return {"type": "image_pil", "image_pil": Image.open(io.BytesIO(data)).convert("RGB")}


if __name__ == "__main__":
    main()
