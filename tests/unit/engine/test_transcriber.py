"""A whole speech is written down: its language, its windows, loops, rests, and the end of the time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from engine.errors import GenerationFailed
from engine.interface import Control, FinishReason, TokenLogprob
from engine.speech.transcriber import SpeechOptions, Transcriber, Transcription
from tests.unit.engine.test_speech_windows import noise, quiet_at
from tests.unit.fake_engine import FakeEngine

GERMAN = SpeechOptions(language="de")
LOOP = "<|0.00|>" + " lighthouse" * 60 + "<|9.00|>"


def heard(engine: FakeEngine, code: str, share: float = 0.9, no_speech_prob: float = 0.1, **rivals: float) -> None:
    """Queues the language of a window; what is left is spread over many languages."""
    left = 1 - share - sum(rivals.values())
    shares = {code: share, **rivals, **{f"x{number}": left / 40 for number in range(40)}}
    engine.enqueue(tokens=(), language_probabilities=shares, no_speech_prob=no_speech_prob)


def said(engine: FakeEngine, text: str, logprob: float = -0.3, no_speech_prob: float = 0.1, **options: Any) -> None:
    """Queues the text of a window."""
    fields: dict[str, Any] = {"logprobs": (TokenLogprob("", logprob),), "no_speech_prob": no_speech_prob, **options}
    engine.enqueue(tokens=(text,), **fields)


def run(
    engine: FakeEngine, seconds: float = 10, options: SpeechOptions = GERMAN, control: Control | None = None
) -> Transcription:
    """Writes down noise with a pause before each half minute."""
    samples = quiet_at(noise(seconds), *np.arange(29.3, seconds, 29.5))
    return Transcriber(engine, options, control or Control()).run(samples.tobytes())


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(ready=True)


def test_windows_are_one_batch_and_their_texts_are_joined(engine: FakeEngine) -> None:
    for number in range(3):
        said(engine, f"<|0.00|> Satz {number}.<|5.00|>")
    found = run(engine, 80)
    assert found.text == "Satz 0. Satz 1. Satz 2."
    assert [round(one.start_s) for one in found.segments] == [0, 30, 59]
    assert (found.language, found.language_probability, found.finish_reason) == ("de", None, FinishReason.STOP)
    assert found.transcribed_s == pytest.approx(80)
    assert [len(windows) for windows in engine.windows] == [3]
    assert {window.language for window in engine.windows[0]} == {"de"}


def test_a_long_speech_is_several_batches(engine: FakeEngine) -> None:
    assert run(engine, 1_200).transcribed_s == pytest.approx(1_200)
    assert [len(windows) for windows in engine.windows] == [32, 9]


def test_options_reach_every_window(engine: FakeEngine) -> None:
    run(engine, 40, SpeechOptions("de", translates=True, timestamps=False, prompt="Herr Öztürk"))
    for window in engine.windows[0]:
        assert (window.translates, window.timestamps, window.prompt) == (True, False, "Herr Öztürk")


def test_the_language_of_a_sure_first_window_counts(engine: FakeEngine) -> None:
    heard(engine, "fr", 0.95)
    said(engine, "<|0.00|> Bonjour.<|2.00|>")
    found = run(engine, 80, SpeechOptions())
    assert found.language == "fr"
    assert found.language_probability == pytest.approx(0.95)
    assert [len(windows) for windows in engine.windows] == [1, 3]
    assert [window.language for window in engine.windows[0]] == [None]


def test_windows_vote_where_the_first_is_not_sure(engine: FakeEngine) -> None:
    heard(engine, "en", 0.9, no_speech_prob=0.9)
    heard(engine, "fr", 0.8)
    heard(engine, "fr", 0.7)
    said(engine, "<|0.00|> Bonjour.<|2.00|>")
    found = run(engine, 80, SpeechOptions())
    assert found.language == "fr"
    assert [len(windows) for windows in engine.windows] == [1, 2, 3]


@pytest.mark.parametrize(("text", "logprob"), [(LOOP, -0.1), ("<|0.00|> x y z.<|2.00|>", -1.4)])
def test_a_rival_counts_where_the_text_in_the_best_is_bad(engine: FakeEngine, text: str, logprob: float) -> None:
    """whisper-base hears Yiddish in a robot's German, and then writes one syllable again and again."""
    heard(engine, "yi", 0.84, de=0.08, en=0.06)
    said(engine, text, logprob)
    said(engine, "<|0.00|> Am Morgen.<|2.00|>", -0.6)
    said(engine, "<|0.00|> A morgue.<|2.00|>", -0.9)
    said(engine, "<|0.00|> Am Morgen.<|2.00|>", -0.6)
    found = run(engine, 10, SpeechOptions())
    assert (found.text, found.language) == ("Am Morgen.", "de")
    assert found.language_probability == pytest.approx(0.08)
    assert [[window.language for window in windows] for windows in engine.windows] == [
        [None],
        ["yi"],
        ["de", "en"],
        ["de"],
    ]


def test_the_best_language_stays_where_its_text_is_good(engine: FakeEngine) -> None:
    heard(engine, "es", 0.8, gl=0.15)
    said(engine, "<|0.00|> Hola.<|2.00|>", -0.7)
    said(engine, "<|0.00|> Hola.<|2.00|>", -0.7)
    assert run(engine, 10, SpeechOptions()).language == "es"
    assert [len(windows) for windows in engine.windows] == [1, 1, 1]


def test_the_best_language_stays_where_no_text_is_good(engine: FakeEngine) -> None:
    heard(engine, "yi", 0.84, de=0.13)
    said(engine, LOOP)
    said(engine, LOOP)
    said(engine, "<|0.00|> Am Morgen.<|2.00|>", -0.9)
    assert run(engine, 10, SpeechOptions()).language == "yi"


def test_the_deadline_may_pass_while_a_language_is_tried(engine: FakeEngine) -> None:
    heard(engine, "yi", 0.84, de=0.13)
    said(engine, LOOP)
    said(engine, "<|0.00|> Am", finish_reason=FinishReason.TIMEOUT)
    found = run(engine, 10, SpeechOptions())
    assert (found.language, found.finish_reason) == (None, FinishReason.TIMEOUT)


def test_silence_is_not_even_asked_for(engine: FakeEngine) -> None:
    found = Transcriber(engine, SpeechOptions(), Control()).run(bytes(4 * 16_000 * 90))
    assert (found.text, found.language, found.transcribed_s) == ("", None, 90)
    assert engine.windows == []


def test_inventions_are_left_out_and_the_language_of_a_noise_is_none(engine: FakeEngine) -> None:
    heard(engine, "en")
    said(engine, "<|0.00|> Thank you.<|2.00|>", -1.3, 0.8)
    found = run(engine, 10, SpeechOptions())
    assert (found.text, found.language, found.language_probability) == ("", None, None)


def test_a_loop_is_written_again_more_freely(engine: FakeEngine) -> None:
    said(engine, "<|0.00|> Eins.<|2.00|>")
    said(engine, LOOP)
    said(engine, "<|0.00|> Leuchtturm.<|2.00|>")
    found = run(engine, 40)
    assert found.text == "Eins. Leuchtturm."
    again = engine.windows[1]
    assert [(window.sampling.temperature, window.sampling.seed) for window in again] == [(0.4, 0)]
    assert again[0].samples == engine.windows[0][1].samples


def test_a_loop_that_stays_is_the_best_of_three(engine: FakeEngine) -> None:
    said(engine, LOOP)
    said(engine, "<|0.00|>" + " so so" * 20 + "<|9.00|>")
    said(engine, LOOP)
    assert run(engine).text.startswith("so so")
    assert [windows[0].sampling.temperature for windows in engine.windows] == [0.0, 0.4, 0.8]


def test_a_loop_without_speech_is_not_written_again(engine: FakeEngine) -> None:
    said(engine, LOOP, no_speech_prob=0.8)
    assert run(engine).text == ""
    assert len(engine.windows) == 1


def test_what_a_text_left_out_is_written_in_its_place(engine: FakeEngine) -> None:
    said(engine, "<|0.00|> Eins.<|4.00|><|4.00|>")
    said(engine, "<|0.00|> Drei.<|4.00|>")
    said(engine, "<|0.00|> Zwei.<|4.00|>")
    found = run(engine, 40)
    assert found.text == "Eins. Zwei. Drei."
    assert found.segments[1].start_s == 4.0
    (rest,) = engine.windows[1]
    assert len(rest.samples) == len(engine.windows[0][0].samples) - 4 * 16_000 * 4


def test_rests_come_to_an_end(engine: FakeEngine) -> None:
    for _ in range(20):
        said(engine, "<|0.00|> Ja.<|0.50|><|0.50|>")
    run(engine)
    assert len(engine.windows) == 5


def test_the_deadline_leaves_what_comes_before_the_first_gap(engine: FakeEngine) -> None:
    said(engine, "<|0.00|> Eins.<|4.00|>")
    said(engine, "<|0.00|> Zwei.<|4.00|><|4.00|> Dr", finish_reason=FinishReason.TIMEOUT)
    said(engine, "<|0.00|> Vier.<|4.00|>")
    found = run(engine, 80)
    assert (found.text, found.finish_reason) == ("Eins. Zwei.", FinishReason.TIMEOUT)
    assert found.transcribed_s == pytest.approx(29.5 + 4, abs=0.2)


def test_a_deadline_that_has_passed_leaves_nothing(engine: FakeEngine) -> None:
    said(engine, "<|0.00|> Eins.<|4.00|>")
    found = run(engine, 40, control=Control(deadline_s=time.monotonic() - 1))
    assert (found.text, found.transcribed_s, found.finish_reason) == ("", 0.0, FinishReason.TIMEOUT)


def test_the_deadline_may_pass_before_the_language_is_known(engine: FakeEngine) -> None:
    engine.enqueue(tokens=(), finish_reason=FinishReason.TIMEOUT)
    found = run(engine, 40, SpeechOptions())
    assert (found.text, found.language, found.finish_reason) == ("", None, FinishReason.TIMEOUT)


def test_progress_is_the_seconds_that_are_written_down(engine: FakeEngine) -> None:
    told: list[float] = []
    samples = quiet_at(noise(80), 29.3, 58.8).tobytes()
    Transcriber(engine, GERMAN, Control(), told.append).run(samples)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(80)
    assert len(told) == 4


def test_a_window_that_the_engine_gives_up_is_an_error(engine: FakeEngine) -> None:
    engine.enqueue(tokens=(), error="The engine gave this request up. Send it again.")
    with pytest.raises(GenerationFailed, match="gave this request up"):
        run(engine, 40)
