"""One call over many images: all relevance checks in one engine batch, all analyses in another, then one answer.

The overall answer over several relevant images:

- Up to `VLLM_MAX_IMAGES_PER_PROMPT` images go into one prompt with the query, in the same batch as the analyses: the
  model compares the images, and the answer takes hardly any extra time.
- For more images, or images too large for one prompt, the answer is generated from the texts of the analyses, in one
  prompt after the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.interface import Completion, Conversation, FinishReason, ImagePart, Message, Sampling
from handlers.model.model import control_of
from handlers.progress import ImageProgress
from handlers.vision.batches import Batches
from handlers.vision.prompts import (
    Metadata,
    analysis_prompt,
    comparison_prompt,
    relevance_prompt,
    summary_prompt,
)
from handlers.yes_no import UNDECIDED, probability_of, yes_no_question

if TYPE_CHECKING:
    from engine.interface import Engine
    from mcp_protocol.calls.call import Call

NOT_CHECKED = "The call's time was up before this image was checked."
NOT_ANALYSED = "The call's time was up before this image was analysed."
CUT_OFF = "The call's time was up; the analysis is cut off."
NOT_ANSWERED = "The call's time was up before the overall answer was complete."
NOTHING_ANALYSED = "There is no overall answer, since no image could be analysed."


@dataclass(slots=True)
class Item:
    """One image of a call and its results; `index` is its position in the caller's list."""

    not_checked: ClassVar[str] = NOT_CHECKED
    not_analysed: ClassVar[str] = NOT_ANALYSED

    index: int
    image: ImagePart
    metadata: Metadata
    relevant: bool | None = None
    probability: float | None = None
    analysis: str | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None

    @property
    def is_candidate(self) -> bool:
        """Whether to analyse it: it was readable and not found irrelevant."""
        return self.error is None and self.relevant is not False

    def fail(self, error: str) -> None:
        """Sets the error of this image."""
        self.error = failure(self.index, error)

    def set_probability(self, completion: Completion, threshold: float) -> None:
        """Sets the result of a relevance check; a failed check is an error, never a yes."""
        self.probability = probability_of(completion)
        if self.probability is not None:
            self.relevant = self.probability >= threshold
        else:
            self.fail(completion.error or (self.not_checked if is_late(completion) else UNDECIDED))

    def set_analysis(self, completion: Completion) -> None:
        """Sets the analysis, complete or cut off, or its error."""
        if completion.error is not None:
            self.fail(completion.error)
            return
        self.finish_reason = completion.finish_reason
        self.analysis = completion.text
        if is_late(completion):
            self.analysis = completion.text or None
            self.fail(CUT_OFF if completion.text else self.not_analysed)


class Items:
    """The images of one call, processed one by one while later ones are still being read.

    Attributes:
        entries: an item for each image read so far, or its error text.
        readable: the items among them.
    """

    def __init__(self, images: Iterable[ImagePart | str], metadata: Sequence[Metadata]) -> None:
        self.entries: list[Item | str] = []
        self.readable: list[Item] = []
        self._images = images
        self._metadata = metadata

    def any_readable(self) -> bool:
        """Waits for the first readable image; if there is none, `entries` has the error of each."""
        if any(isinstance(image, ImagePart) for image in self._images):
            return True
        self.entries += [failure(index, str(error)) for index, error in enumerate(self._images)]
        return False

    def __iter__(self) -> Iterator[Item]:
        """The readable images in order; the first iteration waits for each of them."""
        if self.entries:
            yield from self.readable
            return
        for index, image in enumerate(self._images):
            if isinstance(image, ImagePart):
                item = Item(index, image, self._metadata[index])
                self.entries.append(item)
                self.readable.append(item)
                yield item
            else:
                self.entries.append(failure(index, image))


class Analysis:
    """The work of one call, phase by phase.

    Arguments:
        items: the images.
        query: what to answer about them.
        sampling: how the analyses are sampled.
        call: the call.
        engine: the engine of the model that analyses them.
        max_together: the maximum number of images in one prompt.

    Attributes:
        answer: the overall answer.
        error: why the overall answer is missing or incomplete.
    """

    def __init__(
        self, items: Items, query: str, sampling: Sampling, call: Call, engine: Engine, max_together: int
    ) -> None:
        self.answer: str | None = None
        self.error: str | None = None
        self._items = items
        self._query = query
        self._sampling = sampling
        self._call = call
        self._batches = Batches(control_of(call, None), engine)
        self._max_together = max_together
        self._progress: ImageProgress | None = None

    @property
    def completions(self) -> list[Completion]:
        """All completions of the call."""
        return self._batches.completions

    @property
    def first_token_ms(self) -> float | None:
        """Milliseconds until the first token of the first batch."""
        return self._batches.first_token_ms

    def check(self, threshold: float) -> None:
        """Checks the relevance of every image; a failed check is an error, never a yes."""
        items = self._items.readable
        self._progress = ImageProgress(self._call, items, n_phases=2)
        checks = (relevance_check(item.image, self._query, item.metadata) for item in self._items)
        completions = self._batches.run(checks, self._progress.counter("checked", items))
        for item, completion in zip(items, completions, strict=True):
            item.set_probability(completion, threshold)

    def analyse(self, *, with_answer: bool | None) -> None:
        """Analyses every image that was not found irrelevant, and answers the query over all of them.

        Arguments:
            with_answer: whether to generate the overall answer. `None` means yes, unless the answer needs another
                generation and nothing was checked: a generation after the batch takes as many steps of the engine as
                the whole batch.
        """
        candidates: list[Item] = []
        checked = self._progress is not None
        if self._progress is None:
            self._progress = ImageProgress(self._call, candidates, n_phases=1)
        else:
            self._progress.skip(sum(not item.is_candidate for item in self._items))
        max_together = self._max_together

        def wants_answer() -> bool:
            return checked or len(self._items.readable) <= max_together if with_answer is None else with_answer

        def conversations() -> Iterator[Conversation]:
            for item in self._items:
                if item.is_candidate:
                    candidates.append(item)
                    yield Conversation(analysis_prompt(item.image, self._query, item.metadata), self._sampling)
            if wants_answer() and 2 <= len(candidates) <= max_together:
                yield Conversation(self._comparison(candidates), self._sampling)

        completions = self._batches.run(conversations(), self._progress.counter("analysed", candidates))
        for item, completion in zip(candidates, completions, strict=False):
            item.set_analysis(completion)
        if wants_answer():
            self._answer(candidates, completions[len(candidates) :])

    def _comparison(self, items: Sequence[Item]) -> tuple[Message, ...]:
        images, metadata = [item.image for item in items], [item.metadata for item in items]
        return comparison_prompt(images, self._query, [item.index + 1 for item in items], metadata)

    def _answer(self, candidates: Sequence[Item], compared: Sequence[Completion]) -> None:
        """Sets the overall answer; for a single image it is the analysis."""
        if len(candidates) == 1:
            self.answer = candidates[0].analysis
            return
        completion = compared[0] if compared else None
        analysed = [item for item in candidates if item.analysis is not None]
        if analysed and (completion is None or completion.error is not None):
            completion = self._summarize(analysed)
        if completion is not None:
            self.answer = completion.text or None
            self.error = completion.error or (NOT_ANSWERED if is_late(completion) else None)
        elif candidates:
            self.error = NOTHING_ANALYSED

    def _summarize(self, analysed: Sequence[Item]) -> Completion:
        """Generates the answer from the texts of the analyses."""
        findings = [(item.index + 1, item.metadata, item.analysis or "") for item in analysed]
        return self._batches.run_shortened(
            lambda max_characters: summary_prompt(self._query, findings, max_characters), self._sampling
        )


def relevance_check(image: ImagePart, query: str, metadata: Metadata) -> Conversation:
    """The question whether an image is relevant, with the choice of yes or no as the reply."""
    return yes_no_question(relevance_prompt(image, query, metadata))


def failure(index: int, error: str) -> str:
    """An error text that names the image."""
    return f"arguments.image_paths[{index}]: {error}"


def is_late(completion: Completion) -> bool:
    """Whether the call's deadline ended a generation."""
    return completion.finish_reason is FinishReason.TIMEOUT
