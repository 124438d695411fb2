"""Writes down a whole speech, window by window: finds the language, asks the engine, joins the segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from engine.errors import GenerationFailed
from engine.interface import Completion, Control, Engine, FinishReason, Sampling, SpeechWindow
from engine.speech.languages import ENGLISH
from engine.speech.segments import Segment, Written, joined
from engine.speech.windows import Window, windows

MAX_TOKENS = 224
"""OpenAI's limit of the text of a window: half of the model's context."""
WINDOWS_AT_ONCE = 32
"""A batch. Each window takes a megabyte as the model's input, so that hours of speech cannot be one batch."""
TEMPERATURES = (0.0, 0.4, 0.8)
"""A text that is a loop is written again, more freely each time."""
SURE = 0.6
"""The language of the first window counts alone if it is at least so probable."""
MAX_VOTES = 5
"""Windows whose languages are asked for where the first is not sure."""
MIN_SHARE = 0.05
MAX_RIVALS = 2
"""So many languages with at least this share of the votes are tried where the text in the first one is bad:
whisper-base takes a robot's German for Yiddish (0.84 to 0.13), and then writes one syllable again and again."""
MAX_RESTS = 4
"""How many times a window's rest is written that the model had left out."""

OnProgress = Callable[[float], None]
"""Called with the seconds that are written down so far."""


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How a speech is to be written down.

    Arguments:
        language: the spoken language by its code; `None` where it is to be found.
        translates: whether the text is to be English.
        timestamps: whether segments are to have times.
        prompt: text that is taken as said before each window: names and spellings, a style.
    """

    language: str | None = None
    translates: bool = False
    timestamps: bool = True
    prompt: str = ""


@dataclass(slots=True)
class Transcription:
    """What was said so far. `language_probability` is `None` where the language was given, or where nobody speaks.

    `transcribed_s` are the seconds that are written down; `finish_reason` is `TIMEOUT` if these are not all.
    """

    language: str | None = None
    language_probability: float | None = None
    segments: list[Segment] = field(default_factory=list)
    transcribed_s: float = 0.0
    finish_reason: FinishReason = FinishReason.STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    text_language: str | None = None

    @property
    def text(self) -> str:
        """The whole text so far."""
        return joined(self.segments, self.text_language)


class Transcriber:
    """Writes one speech down.

    Arguments:
        engine: a speech model, loaded.
        options: how.
        control: its cancellation and deadline end the work.
        on_progress: told after each window, in the thread of `run`.

    Attribute: `result`, what is written down so far.
    """

    def __init__(
        self, engine: Engine, options: SpeechOptions, control: Control, on_progress: OnProgress = lambda done_s: None
    ) -> None:
        self.result = Transcription(options.language)
        self._engine = engine
        self._options = options
        self._control = control
        self._on_progress = on_progress

    def run(self, samples: bytes) -> Transcription:
        """Writes down mono samples at 16,000 Hz, float32 in little-endian order.

        Raises: the errors of `Engine.transcribe`.
        """
        result, heard = self.result, windows(samples)
        while group := list(islice(heard, WINDOWS_AT_ONCE)):
            spoken = [window for window in group if not window.is_silent()]
            if spoken and result.language is None and not self._find_language(spoken):
                return self._late()
            result.text_language = ENGLISH if self._options.translates else result.language
            if not self._write_group(spoken):
                return self._late()
            if not result.segments and self._options.language is None:
                result.language = result.language_probability = None  # of a noise
            result.transcribed_s = group[-1].start_s + group[-1].duration_s
            self._on_progress(result.transcribed_s)
        return result

    def _late(self) -> Transcription:
        self.result.finish_reason = FinishReason.TIMEOUT
        return self.result

    def _find_language(self, spoken: Sequence[Window]) -> bool:
        """Finds the language: the windows vote, each as much as it is sure that somebody speaks."""
        step = -(-(len(spoken) - 1) // (MAX_VOTES - 1)) or 1
        votes: dict[str, float] = {}
        best = ENGLISH
        for voters in (spoken[:1], spoken[1::step]):
            for completion in self._asked([SpeechWindow(window.samples, _sampling(0.0)) for window in voters]):
                if completion.finish_reason is FinishReason.TIMEOUT or completion.language_probabilities is None:
                    return False
                speaks = 1 - (completion.no_speech_prob or 0.0)
                for code, share in completion.language_probabilities.items():
                    votes[code] = votes.get(code, 0.0) + share * speaks
            best = max(votes, key=votes.__getitem__)
            if max(votes.values()) >= SURE:
                break
        whole = sum(votes.values()) or 1.0
        likely = [code for code, share in votes.items() if share >= MIN_SHARE * whole]
        rivals = sorted(set(likely) - {best}, key=votes.__getitem__, reverse=True)[:MAX_RIVALS]
        language = self._tried(spoken[0], best, rivals) if rivals else best
        if language is None:
            return False
        self.result.language, self.result.language_probability = language, votes[language] / whole
        return True

    def _tried(self, window: Window, best: str, rivals: Sequence[str]) -> str | None:
        """The best language, or, where the text of a window is bad in it, the rival with the likeliest good text.

        `None` where the time was up before.
        """
        good: dict[str, float] = {}
        for languages in ([best], rivals):
            completions = self._asked([self._request(window, 0.0, language) for language in languages])
            for language, completion in zip(languages, completions, strict=True):
                if completion.finish_reason is FinishReason.TIMEOUT:
                    return None
                if (text := _written(window, completion)).is_good:
                    good[language] = text.avg_logprob
            if best in good:
                break
        return best if best in good else max(good, key=good.__getitem__, default=best)

    def _write_group(self, spoken: Sequence[Window]) -> bool:
        """Adds the segments of a group; False where the time was up before."""
        waiting, segments = list(spoken), list[Segment]()
        for _ in range(1 + MAX_RESTS):
            written, in_time = self._written(waiting)
            for each in written:
                segments += [] if each.is_invented else each.segments()
            if not in_time:
                self._add(segments)
                return False
            rests = [(each, rest_s) for each in written if not each.is_loop and (rest_s := each.rest_s()) is not None]
            waiting = [rest for each, rest_s in rests if not (rest := each.window.part(rest_s)).is_silent()]
            if not waiting:
                break
        self._add(segments)
        return True

    def _add(self, segments: Iterable[Segment]) -> None:
        self.result.segments += sorted(segments, key=lambda segment: segment.start_s)

    def _written(self, waiting: Sequence[Window]) -> tuple[list[Written], bool]:
        """The texts of some windows, and whether the time was enough; else those before the first that is not whole,
        and its part."""
        best: dict[int, Written] = {}
        again = list(range(len(waiting)))
        late = len(waiting)
        for temperature in TEMPERATURES:
            completions = self._asked(
                [self._request(waiting[place], temperature) for place in again],
                [waiting[place].duration_s for place in again] if not best else (),
            )
            for place, completion in zip(again, completions, strict=True):
                is_late = completion.finish_reason is FinishReason.TIMEOUT
                written = _written(waiting[place], completion)
                if place not in best:
                    late = min(late, place) if is_late else late
                    best[place] = written
                elif not is_late and written.compression_ratio < best[place].compression_ratio:
                    best[place] = written
            again = [place for place in again if place < late and best[place].is_loop and not best[place].is_invented]
            if not again or self._control.is_late:
                break
        if late == len(waiting):
            return [best[place] for place in range(late)], True
        rest_s = best[late].rest_s()
        self.result.transcribed_s = waiting[late].start_s + (rest_s or 0.0)
        return [best[place] for place in range(late if rest_s is None else late + 1)], False

    def _request(self, window: Window, temperature: float, language: str | None = None) -> SpeechWindow:
        options = self._options
        return SpeechWindow(
            window.samples,
            _sampling(temperature),
            language or self.result.language,
            translates=options.translates,
            timestamps=options.timestamps,
            prompt=options.prompt,
        )

    def _asked(self, requests: Sequence[SpeechWindow], durations_s: Sequence[float] = ()) -> list[Completion]:
        """Asks the engine; `durations_s` are the seconds of each window, where these count as progress."""
        control, done_s = self._control, self.result.transcribed_s

        def count(index: int) -> None:
            nonlocal done_s
            done_s += durations_s[index]
            self._on_progress(done_s)

        if durations_s:
            control = dataclasses.replace(control, on_finished=count)
        completions = self._engine.transcribe(requests, control)
        for completion in completions:
            if completion.error is not None:
                raise GenerationFailed(completion.error)
            self.result.prompt_tokens += completion.prompt_tokens
            self.result.completion_tokens += completion.completion_tokens
        return completions


def _sampling(temperature: float) -> Sampling:
    return Sampling(temperature, MAX_TOKENS, seed=0 if temperature else None, logprobs=0)


def _written(window: Window, completion: Completion) -> Written:
    logprobs = [entry.logprob for entry in completion.logprobs or ()]
    return Written(
        window,
        completion.text,
        is_whole=completion.finish_reason is FinishReason.STOP,
        avg_logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
        no_speech_prob=completion.no_speech_prob or 0.0,
    )
