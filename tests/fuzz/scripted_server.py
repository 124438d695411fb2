"""The real server with an engine that generates at once, from the last message: `vllm_server.py` for the fuzzer."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

import handlers.services
import vllm_server
from engine import errors
from engine.interface import Completion, Control, Conversation, TokenLogprob, ToolCall
from mcp_protocol import stdio
from settings import Settings
from tests.unit.fake_engine import FakeEngine

HELD = "wait until you are cancelled"
HELD_S = 10.0
SLOW_S = 0.02
TEXTS = (
    "reply",
    "",
    "two\nlines\r\n\0 and a NUL",
    "half a pair \ud83d and a whole one 😀",
    "\u2028\u2029\ufeff\x7f",
    "x" * 20_000,
    '{"jsonrpc":"2.0","id":1,"result":{}}\n',
)
ERRORS = (
    errors.GenerationFailed("The generation failed."),
    errors.PromptTooLong(None, 2048),
    errors.EngineDied("The engine died."),
    errors.OutOfMemory("Out of memory."),
    errors.InvalidGeneration("This cannot be generated."),
)


class ScriptedEngine(FakeEngine):
    """Generates the text that the last message of a conversation names. Equal messages give equal text."""

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Generates the texts; several threads may call it at once."""
        conversations = list(conversations)
        self.load(control.on_phase)
        speaker = FakeEngine(ready=True)
        for conversation in conversations:
            _queue_answer(speaker, conversation)
        try:
            return speaker.generate(conversations, control)
        finally:
            self.last_used_s = time.monotonic()


def _queue_answer(speaker: FakeEngine, conversation: Conversation) -> None:
    asked = conversation.messages[-1].text
    number = zlib.crc32(asked.encode("utf-8", "surrogatepass"))
    if asked == HELD:
        speaker.enqueue("never", delay_s=HELD_S)
    elif conversation.choice:
        speaker.enqueue(conversation.choice[0], probabilities=(1.0, *(0.0 for _ in conversation.choice[1:])))
    elif 0 < number % 16 <= len(ERRORS):
        speaker.enqueue(raises=ERRORS[number % 16 - 1])
    elif conversation.tools and number % 2:
        name = conversation.tools[0]["function"]["name"]
        speaker.enqueue("", tool_calls=(ToolCall("call_1", name, "{}"),))
    else:
        text = TEXTS[number % len(TEXTS)]
        asked_for = conversation.sampling.logprobs is not None
        speaker.enqueue(
            tokens=(text[:1], text[1:]),
            delay_s=SLOW_S if number % 16 > 12 else 0.0,
            reasoning="because" if number % 8 == 6 else None,
            logprobs=(TokenLogprob(text[:1], -0.5), TokenLogprob(text[1:], float("-inf"))) if asked_for else None,
        )


class ScriptedServices(handlers.services.Services):
    """The services with that engine."""

    def __init__(self, settings: Settings, ending_fd: int = -1) -> None:
        super().__init__(settings, ending_fd)
        self.engine = ScriptedEngine()


if __name__ == "__main__":
    max_line_bytes = int(os.environ.get("FUZZ_MAX_LINE_BYTES", stdio.MAX_LINE_BYTES))
    with (
        patch.object(handlers.services, "Services", ScriptedServices),
        patch.object(stdio, "MAX_LINE_BYTES", max_line_bytes),
    ):
        vllm_server.main()
