"""One call over many pictures: all relevance checks in one engine batch, all analyses in another, then one answer.

How the answer over several relevant pictures is made:

- As many as one prompt holds (`VLLM_MAX_IMAGES_PER_PROMPT`) are shown to the model together with the query, in the same
  batch as the analyses: the model compares what it sees, and the answer costs hardly any time.
- More, or pictures too large for one prompt, are answered out of the analyses' texts, in one prompt after the batch.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Conversation, FinishReason, ImagePart, Message, OnFinished, Sampling
from handlers.model import control_of
from handlers.progress import ImageProgress
from handlers.vision_prompts import (
    YES_NO,
    Metadata,
    analysis_prompt,
    comparison_prompt,
    relevance_prompt,
    summary_prompt,
)

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call

NOT_CHECKED = "The call's time was up before this picture was checked."
NOT_ANALYSED = "The call's time was up before this picture was analysed."
CUT_OFF = "The call's time was up; the analysis is cut off."
NOT_ANSWERED = "The call's time was up before the answer over all pictures was complete."
NOTHING_ANALYSED = "There is no answer, since no picture could be analysed."
UNDECIDED = "The model gave no probability for yes or no."

ANALYSIS_LENGTHS = (None, 2_000, 1_000, 500, 250, 100)
"""Characters of each analysis that go into the answer's prompt: fewer each time that it is too long."""


@dataclass(slots=True)
class Item:
    """One picture on its way through a call; `index` is its place in the caller's list."""

    index: int
    image: ImagePart
    metadata: Metadata
    relevant: bool | None = None
    probability: float | None = None
    analysis: str | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the query is to be asked about it: it was not found irrelevant."""
        return self.error is None and self.relevant is not False

    def fail(self, error: str) -> None:
        """Notes what went wrong with this picture."""
        self.error = failure(self.index, error)

    def take(self, completion: Completion) -> None:
        """Takes over the analysis, whole or cut off, or why there is none."""
        if completion.error is not None:
            self.fail(completion.error)
            return
        self.finish_reason = completion.finish_reason
        self.analysis = completion.text
        if _is_late(completion):
            self.analysis = completion.text or None
            self.fail(CUT_OFF if completion.text else NOT_ANALYSED)


class Items:
    """The pictures of one call: the readable ones are taken one by one, while later ones are still being read.

    Attributes: `entries`, one for each picture looked at so far, an item or why there is none; `taken`, the items
    among them.
    """

    def __init__(self, pictures: Iterable[ImagePart | str], metadata: Sequence[Metadata]) -> None:
        self.entries: list[Item | str] = []
        self.taken: list[Item] = []
        self._pictures = pictures
        self._metadata = metadata

    def any_readable(self) -> bool:
        """Waits for the first readable picture; where there is none, `entries` says why of each."""
        if any(isinstance(picture, ImagePart) for picture in self._pictures):
            return True
        self.entries += [failure(index, str(error)) for index, error in enumerate(self._pictures)]
        return False

    def __iter__(self) -> Iterator[Item]:
        """The readable pictures in their order; the first to iterate waits for each of them."""
        if self.entries:
            yield from self.taken
            return
        for index, picture in enumerate(self._pictures):
            if isinstance(picture, ImagePart):
                item = Item(index, picture, self._metadata[index])
                self.entries.append(item)
                self.taken.append(item)
                yield item
            else:
                self.entries.append(failure(index, picture))


class Analysis:
    """The work of one call, phase by phase.

    Attributes: `answer` over all pictures, and `error`, why there is none or not all of it; `completions`, all that
    were made; `first_token_ms` of the first batch.
    """

    def __init__(self, items: Items, query: str, sampling: Sampling, call: Call, services: Services) -> None:
        self.answer: str | None = None
        self.error: str | None = None
        self.completions: list[Completion] = []
        self.first_token_ms: float | None = None
        self._items = items
        self._query = query
        self._sampling = sampling
        self._call = call
        self._services = services
        self._progress: ImageProgress | None = None

    def check(self, threshold: float) -> None:
        """Asks of every picture whether it is relevant; a check that fails is an error, never a yes."""
        taken = self._items.taken
        self._progress = ImageProgress(self._call, taken, n_phases=2)
        checks = (relevance_check(item.image, self._query, item.metadata) for item in self._items)
        completions = self._generate(checks, self._progress.counter("checked", taken))
        for item, completion in zip(taken, completions, strict=True):
            item.probability = probability_of(completion)
            if item.probability is not None:
                item.relevant = item.probability >= threshold
            else:
                item.fail(completion.error or (NOT_CHECKED if _is_late(completion) else UNDECIDED))

    def analyse(self, *, with_answer: bool | None) -> None:
        """Asks the query about every picture that was not found irrelevant, and about all of them together.

        Arguments: `with_answer`, whether there is to be one answer; `None` for yes, except where that costs a
        generation of its own and nothing was checked: a text after the batch takes as many steps of the engine as the
        whole batch before it.
        """
        chosen: list[Item] = []
        checked = self._progress is not None
        if self._progress is None:
            self._progress = ImageProgress(self._call, chosen, n_phases=1)
        else:
            self._progress.skip(sum(not item.is_wanted for item in self._items))
        most_together = self._services.settings.engine.max_images_per_prompt

        def wants_answer() -> bool:
            return checked or len(self._items.taken) <= most_together if with_answer is None else with_answer

        def conversations() -> Iterator[Conversation]:
            for item in self._items:
                if item.is_wanted:
                    chosen.append(item)
                    yield Conversation(analysis_prompt(item.image, self._query, item.metadata), self._sampling)
            if wants_answer() and 2 <= len(chosen) <= most_together:
                yield Conversation(self._comparison(chosen), self._sampling)

        completions = self._generate(conversations(), self._progress.counter("analysed", chosen))
        for item, completion in zip(chosen, completions, strict=False):
            item.take(completion)
        if wants_answer():
            self._answer(chosen, completions[len(chosen) :])

    def _comparison(self, items: Sequence[Item]) -> tuple[Message, ...]:
        images, metadata = [item.image for item in items], [item.metadata for item in items]
        return comparison_prompt(images, self._query, [item.index + 1 for item in items], metadata)

    def _answer(self, chosen: Sequence[Item], compared: Sequence[Completion]) -> None:
        """The answer over all chosen pictures; of a single one, its analysis."""
        if len(chosen) == 1:
            self.answer = chosen[0].analysis
            return
        completion = compared[0] if compared else None
        analysed = [item for item in chosen if item.analysis is not None]
        if analysed and (completion is None or completion.error is not None):
            completion = self._summarize(analysed)
        if completion is not None:
            self.answer = completion.text or None
            self.error = completion.error or (NOT_ANSWERED if _is_late(completion) else None)
        elif chosen:
            self.error = NOTHING_ANALYSED

    def _summarize(self, analysed: Sequence[Item]) -> Completion:
        """The answer out of the analyses' texts, shortened as far as the model's context needs."""
        findings = [(item.index + 1, item.metadata, item.analysis or "") for item in analysed]
        completion = Completion()
        for most_characters in ANALYSIS_LENGTHS:
            prompt = summary_prompt(self._query, findings, most_characters)
            try:
                (completion,) = self._batch([Conversation(prompt, self._sampling)])
            except PromptTooLong as error:
                completion = Completion(error=str(error))
            except (InvalidGeneration, GenerationFailed) as error:
                return Completion(error=str(error))
            else:
                break
        return completion

    def _generate(
        self, conversations: Iterable[Conversation], on_finished: OnFinished | None = None
    ) -> list[Completion]:
        """One engine batch; a refusal is its conversation's error, also where there is only one."""
        n_asked = 0

        def counted() -> Iterator[Conversation]:
            nonlocal n_asked
            for conversation in conversations:
                n_asked += 1
                yield conversation

        try:
            return self._batch(counted(), on_finished)
        except (InvalidGeneration, GenerationFailed) as error:
            if n_asked > 1:
                raise
            return [Completion(error=str(error))]

    def _batch(self, conversations: Iterable[Conversation], on_finished: OnFinished | None = None) -> list[Completion]:
        if self._call.deadline_s is not None and time.monotonic() >= self._call.deadline_s:
            return [Completion(finish_reason=FinishReason.TIMEOUT) for _ in conversations]
        control = dataclasses.replace(control_of(self._call, None), on_finished=on_finished)
        completions = self._services.engine.generate(conversations, control)
        if not self.completions:
            begun = [completion.first_token_ms for completion in completions if completion.first_token_ms is not None]
            self.first_token_ms = min(begun, default=None)
        self.completions += [completion for completion in completions if completion.prompt_tokens]
        return completions


def relevance_check(image: ImagePart, query: str, metadata: Metadata) -> Conversation:
    """The question whether a picture is relevant, to be answered by yes or no at once."""
    return Conversation(
        relevance_prompt(image, query, metadata), Sampling(0.0, 1), enable_thinking=False, choice=YES_NO
    )


def failure(index: int, error: str) -> str:
    """An error with the picture that it is about."""
    return f"arguments.image_paths[{index}]: {error}"


def probability_of(completion: Completion) -> float | None:
    """The probability of yes in the answer to a `relevance_prompt`; `None` when the check failed."""
    if completion.choice_probabilities is None:
        return None
    return round(completion.choice_probabilities[0], 6)


def _is_late(completion: Completion) -> bool:
    return completion.finish_reason is FinishReason.TIMEOUT
