"""The two sides of the engine benchmarks, with the same requests: the server over its pipes, and the raw engine."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from benchmarks.contenders import ROOT
from benchmarks.pipe_server import Json, PipeServer, result_of, tool_line
from benchmarks.raw_engine import Answer, Question

Messages = list[Json]
DEFAULTS = {
    "VLLM_CPU_KVCACHE_SPACE": "0.25",  # the server's default depends on the free memory
    "VLLM_EXTRA_ENGINE_ARGS": '{"max_num_seqs": 32}',
    "VLLM_MAX_IMAGES_PER_PROMPT": "4",
    "VLLM_LOG_LEVEL": "WARNING",
    "VLLM_MAX_SESSION_MESSAGES": "1000",
}


def engine_environment(model: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of both sides; the caller's VLLM_… variables apply to both, and `more` overrides them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**DEFAULTS, **own, **(more or {}), "VLLM_MODEL_NAME": model}


class OurServer:
    """The server from a client's view; the time is from the first byte sent to the last one received.

    It includes JSON in the server, both pipes, validation, and decoding images from data URLs, but not building the
    request and parsing the reply, which is the client's work.
    """

    name = "vllm_server.py"

    def __init__(self, model: str, more: Mapping[str, str] | None = None) -> None:
        command = (sys.executable, str(ROOT / "vllm_server.py"))
        self.pipes = PipeServer(command, environment=engine_environment(model, more))
        self.pipes.initialize()

    def __enter__(self) -> OurServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pipes.close()

    def chat(self, messages: Messages, max_tokens: int, session_id: str | None = None) -> Answer:
        """One `chat_completion`, without progress."""
        arguments: Json = {"messages": messages, **_sampling(max_tokens)}
        if session_id is not None:
            arguments["session_id"] = session_id
        seconds, result = self.call("chat_completion", arguments)
        return _answer(seconds, [result["text"]], result["usage"])

    def chat_batch(self, conversations: Sequence[Messages], max_tokens: int) -> Answer:
        """One `chat_completion_batch`."""
        arguments = {"conversations": list(conversations), **_sampling(max_tokens)}
        seconds, result = self.call("chat_completion_batch", arguments)
        return _answer(seconds, [item["text"] for item in result["results"]], result["usage"])

    def chat_streamed(self, messages: Messages, max_tokens: int) -> tuple[Answer, float, int]:
        """One `chat_completion` with a progress token: the answer, seconds to the first notification, their number."""
        arguments = {"messages": messages, **_sampling(max_tokens)}
        line = tool_line("chat_completion", arguments, progress_token=1)
        started_s = time.perf_counter()
        self.pipes.send(line)
        reply, first_s, n_notifications = self.pipes.receive(), time.perf_counter() - started_s, 0
        while b'"notifications/progress"' in reply[:100]:
            n_notifications += 1
            reply = self.pipes.receive()
        seconds = time.perf_counter() - started_s
        result = result_of(reply)["structuredContent"]
        return _answer(seconds, [result["text"]], result["usage"]), first_s, n_notifications

    def pipelined(self, lines: Sequence[bytes]) -> tuple[float, list[bytes]]:
        """Sends requests without waiting for replies; seconds from the first byte sent to the last one received, and
        the replies as they came. A thread sends, since a server may wait for its replies to be read."""
        sender = threading.Thread(target=self.pipes.send, args=(b"".join(lines),))
        started_s = time.perf_counter()
        sender.start()
        replies = [self.pipes.receive() for _ in lines]
        seconds = time.perf_counter() - started_s
        sender.join()
        return seconds, replies

    def chat_pipelined(self, conversations: Sequence[Messages], max_tokens: int) -> tuple[Answer, list[int]]:
        """A `chat_completion` each, sent without waiting; returns also the ids as the replies came."""
        lines = [
            tool_line("chat_completion", {"messages": messages, **_sampling(max_tokens)}, number)
            for number, messages in enumerate(conversations)
        ]
        seconds, replies = self.pipelined(lines)
        ids = [msgspec.json.decode(reply)["id"] for reply in replies]
        results = dict(zip(ids, (result_of(reply)["structuredContent"] for reply in replies), strict=True))
        ordered = [results[number] for number in range(len(lines))]
        usage = {
            name: sum(result["usage"][name] for result in ordered) for name in ("prompt_tokens", "completion_tokens")
        }
        return _answer(seconds, [result["text"] for result in ordered], {**usage, "cached_tokens": None}), ids

    def call(self, tool: str, arguments: Json) -> tuple[float, Json]:
        """Calls a tool: seconds and its structured content."""
        line = tool_line(tool, arguments)
        started_s = time.perf_counter()
        reply = self.pipes.ask(line)
        seconds = time.perf_counter() - started_s
        structured: Json = result_of(reply)["structuredContent"]
        return seconds, structured


class RawEngine:
    """`vllm.LLM.chat` in a process of its own; see `raw_engine.py` for what its clock measures."""

    name = "raw LLM.chat"

    def __init__(self, model: str, more: Mapping[str, str] | None = None) -> None:
        command = (sys.executable, "-m", "benchmarks.raw_engine")
        self._pipes = PipeServer(command, environment=engine_environment(model, more), folder=ROOT)
        self._pipes.receive()

    def __enter__(self) -> RawEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pipes.close()

    def chat(
        self, conversations: Sequence[Messages], max_tokens: int, *, ignore_eos: bool = True, decoded: bool = True
    ) -> Answer:
        """One call of `LLM.chat` on a list."""
        question = Question(list(conversations), max_tokens, ignore_eos, decoded)
        return msgspec.json.decode(self._pipes.ask(msgspec.json.encode(question) + b"\n"), type=Answer)


def one_by_one(chat: Callable[[Messages], Answer], conversations: Sequence[Messages]) -> Answer:
    """One call for each conversation, added up."""
    answers = [chat(messages) for messages in conversations]
    return Answer(
        sum(answer.seconds for answer in answers),
        [answer.texts[0] for answer in answers],
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.completion_tokens for answer in answers),
        None,
    )


def _sampling(max_tokens: int) -> Json:
    return {"temperature": 0, "max_tokens": max_tokens, "ignore_eos": True}


def _answer(seconds: float, texts: list[str], usage: Json) -> Answer:
    return Answer(seconds, texts, usage["prompt_tokens"], usage["completion_tokens"], usage["cached_tokens"])
