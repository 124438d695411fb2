"""The frames of a video: when something is to be seen, and one answer over all of them.

The frames go through the same checks as images. The overall answer:

- Up to `VLLM_MAX_IMAGES_PER_PROMPT` frames go into one prompt with their times, in the same batch as the descriptions.
- For more frames, or frames too large for one prompt, each is described, and the answer is generated from the texts
  with their times.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.errors import GenerationFailed
from engine.interface import Completion, Conversation, Sampling
from handlers.progress import ImageProgress
from handlers.vision.analysis import NOT_ANSWERED, Item, is_late, relevance_check
from handlers.vision.batches import Batches
from handlers.vision.prompts import Spoken, frame_prompt, frames_prompt, frames_summary_prompt

if TYPE_CHECKING:
    from engine.interface import Control, Engine
    from handlers.progress import Progress

BRIEF_TOKENS = 128
"""The longest description of a frame that only the overall answer is made from."""
NOTHING_DESCRIBED = "There is no overall answer, since the model described no frame."


@dataclass(slots=True)
class Frame(Item):
    """One frame and its results; `time_s` counts from the first frame of the video."""

    not_checked: ClassVar[str] = "The call's time was up before this frame was checked."
    not_analysed: ClassVar[str] = "The call's time was up before this frame was analysed."

    time_s: float = 0.0
    number: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was found out about it."""
        return self.probability is None and self.analysis is None

    def fail(self, error: str) -> None:
        """Sets the error of this frame."""
        self.error = error


class FoundSpan(msgspec.Struct, frozen=True):
    """A span of the video whose frames are relevant; `probability` is the highest of them."""

    start_s: float
    end_s: float
    probability: float


class FrameAnalysis:
    """The work on the frames of one video.

    Arguments:
        frames: in the order of their times.
        query: what to answer about them.
        sampling: how the descriptions and the answer are sampled.
        control: its cancellation and deadline end the work.
        engine: the engine of the model.
        sink: is told the progress.
        max_together: the maximum number of images in one prompt.
        duration_s: of the video.

    Attributes:
        answer: the overall answer.
        error: why the overall answer is missing or incomplete.
        batches: the engine's batches.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        query: str,
        sampling: Sampling,
        control: Control,
        engine: Engine,
        sink: Progress,
        max_together: int,
        duration_s: float,
    ) -> None:
        self.answer: str | None = None
        self.error: str | None = None
        self.batches = Batches(control, engine)
        self._sink = sink
        self._frames = frames
        self._query = query
        self._sampling = sampling
        self._fit_together = len(frames) <= max_together
        self._duration_s = duration_s
        self._speech: Sequence[Spoken] = ()

    def run(
        self, threshold: float | None, *, per_frame: bool, speech: Sequence[Spoken] = (), n_before: float = 0.0
    ) -> None:
        """Checks the relevance of each frame, describes each, and answers the query.

        Arguments:
            threshold: the lowest probability of a relevant frame; `None` for no check.
            per_frame: whether the caller gets the descriptions.
            speech: what is said in the video.
            n_before: the progress that was already reported.

        Raises: `GenerationFailed` if everything is refused; the engine's errors.
        """
        self._speech = speech
        is_described = per_frame or not self._fit_together
        n_phases = (threshold is not None) + is_described
        progress = ImageProgress(self._sink, self._frames, max(1, n_phases), "frames", n_before)
        if threshold is not None:
            self._check(threshold, progress)
        described = self._frames if is_described else ()
        conversations = self._descriptions(brief=not per_frame) if is_described else []
        if self._fit_together:
            images, times_s = [frame.image for frame in self._frames], [frame.time_s for frame in self._frames]
            prompt = frames_prompt(images, self._query, times_s, self._duration_s, self._speech)
            conversations.append(Conversation(prompt, self._sampling))
        completions = self.batches.run(conversations, progress.counter("described", described))
        together = completions.pop() if self._fit_together else None
        if per_frame:
            for frame, completion in zip(self._frames, completions, strict=True):
                frame.set_analysis(completion)
        if together is None or together.error is not None:
            together = self._summary(completions or self.batches.run(self._descriptions(brief=True)))
        if together.error is not None and all(frame.is_unknown for frame in self._frames):
            raise GenerationFailed(together.error)
        self.answer = together.text or None
        self.error = together.error or (NOT_ANSWERED if is_late(together) else None)

    def _check(self, threshold: float, progress: ImageProgress) -> None:
        checks = (relevance_check(frame.image, self._query, None) for frame in self._frames)
        completions = self.batches.run(checks, progress.counter("checked", self._frames))
        for frame, completion in zip(self._frames, completions, strict=True):
            frame.set_probability(completion, threshold)
        if all(completion.error is not None for completion in completions):
            raise GenerationFailed(completions[0].error or "")

    def _descriptions(self, *, brief: bool) -> list[Conversation]:
        max_tokens = min(self._sampling.max_tokens, BRIEF_TOKENS) if brief else self._sampling.max_tokens
        sampling = dataclasses.replace(self._sampling, max_tokens=max_tokens)
        return [
            Conversation(frame_prompt(frame.image, self._query, frame.time_s, self._duration_s), sampling)
            for frame in self._frames
        ]

    def _summary(self, described: Sequence[Completion]) -> Completion:
        """Generates the answer from the descriptions of the frames; equal ones of neighbours are given once."""
        described_frames = zip(self._frames, described, strict=True)
        texts = [(frame.time_s, completion.text) for frame, completion in described_frames if completion.text]
        if not texts:
            failed = (completion for completion in described if completion.error is not None or is_late(completion))
            return next(failed, Completion(error=NOTHING_DESCRIBED))
        findings: list[Spoken] = []
        for text, group in itertools.groupby(texts, key=lambda each: each[1]):
            times_s = [time_s for time_s, _ in group]
            findings.append((times_s[0], times_s[-1], text))
        return self.batches.run_shortened(
            lambda max_characters: frames_summary_prompt(
                self._query, findings, self._duration_s, self._speech, max_characters
            ),
            self._sampling,
        )


def found_spans(frames: Sequence[Frame], start_s: float, end_s: float) -> list[FoundSpan] | None:
    """The spans in which frames are relevant; `None` if no frame could be checked.

    A span reaches to the middle between a relevant frame and its neighbour that is not, or to the neighbour itself
    where the video has no frame between them; and at most to `start_s` and `end_s`. A frame that could not be checked
    ends a span.
    """
    if all(frame.probability is None for frame in frames):
        return None
    times_s = [max(frame.time_s, start_s) for frame in frames]
    edges_s = [start_s]
    for number in range(1, len(frames)):
        is_next = frames[number].number == frames[number - 1].number + 1
        edges_s.append(times_s[number] if is_next else (times_s[number - 1] + times_s[number]) / 2)
    edges_s.append(end_s)
    spans = []
    for is_found, group in itertools.groupby(range(len(frames)), key=lambda at: frames[at].relevant):
        at = list(group)
        if is_found:
            highest = max(frames[number].probability or 0.0 for number in at)
            spans.append(FoundSpan(round(edges_s[at[0]], 3), round(edges_s[at[-1] + 1], 3), highest))
    return spans


def sampling_step_s(frames: Sequence[Frame], start_s: float, end_s: float) -> float:
    """The longest time between two frames that were looked at; of a single frame the whole span.

    Something that is to be seen for a shorter time may be missed.
    """
    gaps_s = [later.time_s - earlier.time_s for earlier, later in itertools.pairwise(frames)]
    return round(max(gaps_s, default=end_s - start_s), 3)
