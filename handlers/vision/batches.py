"""The engine batches of one call or job, and what becomes of the call's deadline and of rejected prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from engine.errors import GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Conversation, FinishReason, Message, OnFinished, Sampling

if TYPE_CHECKING:
    from engine.interface import Control, Engine

TEXT_LENGTHS = (None, 2_000, 1_000, 500, 250, 100)
"""Characters of each text in the prompt of an overall answer: fewer after each prompt that was too long."""


class Batches:
    """Runs the batches of one call or job one after another.

    Arguments:
        control: the call's cancellation and deadline.
        engine: the engine of the model.

    Attributes:
        completions: all completions so far.
        first_token_ms: of the first batch.
    """

    def __init__(self, control: Control, engine: Engine) -> None:
        self.completions: list[Completion] = []
        self.first_token_ms: float | None = None
        self._control = control
        self._engine = engine

    def run(self, conversations: Iterable[Conversation], on_finished: OnFinished | None = None) -> list[Completion]:
        """Runs one batch; a rejected conversation gets an error, also if it is the only one."""
        n_conversations = 0

        def counted() -> Iterator[Conversation]:
            nonlocal n_conversations
            for conversation in conversations:
                n_conversations += 1
                yield conversation

        try:
            return self._generated(counted(), on_finished)
        except (InvalidGeneration, GenerationFailed) as error:
            if n_conversations > 1:
                raise
            return [Completion(error=str(error))]

    def run_shortened(self, prompt: Callable[[int | None], tuple[Message, ...]], sampling: Sampling) -> Completion:
        """Generates from a prompt with texts that are shortened until they fit into the model's context.

        Arguments:
            prompt: makes the prompt, given the maximum number of characters of each text, `None` for all.
            sampling: how to sample.
        """
        completion = Completion()
        for max_characters in TEXT_LENGTHS:
            try:
                (completion,) = self._generated([Conversation(prompt(max_characters), sampling)])
            except PromptTooLong as error:
                completion = Completion(error=str(error))
            except (InvalidGeneration, GenerationFailed) as error:
                return Completion(error=str(error))
            else:
                break
        return completion

    def _generated(
        self, conversations: Iterable[Conversation], on_finished: OnFinished | None = None
    ) -> list[Completion]:
        control = dataclasses.replace(self._control, on_finished=on_finished)
        if control.is_late:
            return [Completion(finish_reason=FinishReason.TIMEOUT) for _ in conversations]
        completions = self._engine.generate(conversations, control)
        if not self.completions:
            times_ms = [each.first_token_ms for each in completions if each.first_token_ms is not None]
            self.first_token_ms = min(times_ms, default=None)
        self.completions += [completion for completion in completions if completion.prompt_tokens]
        return completions
