"""A fake of a loaded `SteppedLLM`: each request generates one letter a step, as vLLM's outputs look."""

import enum
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from engine.interface import Control, Conversation, Message, Sampling, TextPart
from engine.local.adapter import AddedRequest, EngineAdapter
from engine.local.inputs.input_processor import InputProcessor
from engine.local.lora import LoraAdapters
from engine.local.output_parsers import OutputParsers
from engine.local.scheduler import Scheduler
from engine.prompts.rendering import Renderer, TokenBreaker
from sandbox.cancellation import Cancellation

SHORT_S = 1.0
"""Long enough for a few steps of the fake, even on a busy machine."""


def over_in_step(number: int, deadline_s: float) -> Callable[[int], None]:
    """What lasts in a step until a deadline is over, however slow the machine is."""
    return lambda step: time.sleep(max(0.0, deadline_s + 0.01 - time.monotonic())) if step == number else None


class OutputKind(enum.Enum):
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class Request:
    """What vLLM keeps of a running request, as far as the adapter reads it."""

    request_id: str
    params: Any
    text: str = ""
    sent: int = 0
    is_prefilling: bool = True
    num_cached_tokens: int = 0

    @property
    def logprobs_processor(self) -> SimpleNamespace:
        return SimpleNamespace(logprobs=positions(self))

    @property
    def detokenizer(self) -> "Request":
        return self

    @property
    def output_token_ids(self) -> list[int]:
        return [0] * len(self.text)

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        rest, self.sent = self.text[self.sent if delta else 0 :], len(self.text)
        return rest


def positions(request: Request) -> list[dict[int, Any]]:
    """The log-probabilities of a request's letters: each the second likeliest, after a dash."""
    return [
        {
            ord(letter): SimpleNamespace(decoded_token=letter, logprob=-2.0, rank=2),
            0: SimpleNamespace(decoded_token="-", logprob=-0.5, rank=1),
        }
        for letter in request.text
    ]


@dataclass
class FakeLLM:
    """The engine and the `LLM` in one.

    `refusals` maps a message's text to the errors that adding it raises, one per attempt; `give_up` has the texts whose
    requests end with `error` once; `on_step` is called before each step; `opinions` are the log-probabilities by token
    of every first token. The tokens are the letters, from 0 for "a" on, and from 26 on for "A".
    """

    refusals: dict[str, list[BaseException]] = field(default_factory=dict)
    give_up: list[str] = field(default_factory=list)
    on_step: Any = None
    opinions: dict[int, float] = field(default_factory=dict)
    steps: int = 0
    added: int = 0
    running: dict[str, Request] = field(default_factory=dict)
    templates: list[str | None] = field(default_factory=list)
    adapters: list[Any] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.llm_engine = self
        self.engine_core = SimpleNamespace()
        self.model_config = SimpleNamespace(max_model_len=100)
        self.output_processor = SimpleNamespace(request_states=self.running)

    def enqueue_chat(
        self, messages: Any, params: Any, use_tqdm: bool, chat_template: str | None, **options: Any
    ) -> None:
        assert not use_tqdm
        text = messages[-1]["content"]
        if errors := self.refusals.get(text):
            raise errors.pop(0)
        self.templates.append(chat_template)
        self.adapters.append(options["lora_request"])
        request_id = str(self.added)
        self.added += 1
        if text in self.give_up:
            self.give_up.remove(text)
            self.failing.add(request_id)
        self.running[f"{request_id}-internal"] = Request(request_id, params)
        self.added_request = AddedRequest(
            request_id, f"{request_id}-internal", range(len(text)), {"image": 0, "audio": 0, "video": 0}
        )

    def get_tokenizer(self) -> Any:
        letters = {letter: number for number, letter in enumerate(string.ascii_letters)}
        return SimpleNamespace(
            apply_chat_template=lambda messages, **how: messages[-1]["content"],
            encode=lambda text, **how: [letters.get(letter, 99) for letter in text],
            get_vocab=lambda: letters,
        )

    def has_unfinished_requests(self) -> bool:
        return bool(self.running)

    def abort_request(self, ids: list[str], internal: bool) -> None:
        assert internal
        for internal_id in ids:
            del self.running[internal_id]

    def step(self) -> list[Any]:
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.steps)
        outputs = []
        for internal_id, request in list(self.running.items()):
            request.is_prefilling = False
            request.text += chr(ord("a") + len(request.text))
            finish_reason = "length" if len(request.text) >= request.params.max_tokens else None
            if request.request_id in self.failing:
                finish_reason = "error"
            if finish_reason is not None:
                del self.running[internal_id]
            delta = request.params.output_kind is OutputKind.DELTA
            if finish_reason or delta:
                text = request.get_next_output_text(finish_reason is not None, delta)
                opinions = {token: SimpleNamespace(logprob=value) for token, value in self.opinions.items()}
                wanted = request.params.logprobs is not None
                said = [opinions] if opinions else positions(request)[-len(text) :] if wanted else None
                new = SimpleNamespace(text=text, token_ids=[0] * len(text), finish_reason=finish_reason, logprobs=said)
                outputs.append(
                    SimpleNamespace(
                        request_id=request.request_id,
                        finished=finish_reason is not None,
                        outputs=[new],
                        num_cached_tokens=0,
                    )
                )
        return outputs


def make_scheduler(
    llm: FakeLLM,
    plain_template: str | None = None,
    plain_stop: tuple[str, ...] = (),
    *,
    has_thread: bool = False,
    parsers: Any = None,
) -> Scheduler:
    """A scheduler over the fake, for a model without images."""
    inputs = make_inputs(llm, plain_template, plain_stop, parsers=parsers)
    return Scheduler(EngineAdapter(llm), inputs, has_thread=has_thread)


def make_inputs(
    llm: FakeLLM, plain_template: str | None = None, plain_stop: tuple[str, ...] = (), *, parsers: Any = None
) -> InputProcessor:
    """What makes the inputs of that scheduler."""
    renderer = Renderer("model", accepts=(), max_images=0, break_tokens=TokenBreaker(()))
    return InputProcessor(llm, renderer, LoraAdapters({}), parsers or OutputParsers(llm), plain_template, plain_stop)


def ask(text: str, max_tokens: int = 3, stop: tuple[str, ...] = ()) -> Conversation:
    """A conversation of one message."""
    return Conversation((Message("user", (TextPart(text),)),), Sampling(0.0, max_tokens, stop=stop))


def cancelled_after(n_steps: int, llm: FakeLLM) -> Control:
    """A control that is cancelled during a step."""
    cancellation = Cancellation()
    llm.on_step = lambda step: cancellation.set() if step == n_steps else None
    return Control(cancellation=cancellation)
