"""Subtitles as SubRip and WebVTT are written."""

from __future__ import annotations

from engine.speech.segments import Segment
from engine.speech.subtitles import srt, vtt


def segment(start_s: float, end_s: float, text: str) -> Segment:
    """A segment."""
    return Segment(start_s, end_s, text, -0.3, 0.1)


SEGMENTS = [segment(0, 1.5, "Good morning."), segment(3661.02, 360_000, "R & D <b>\n\n a --> b")]


def test_subrip() -> None:
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,500\nGood morning.\n\n2\n01:01:01,020 --> 100:00:00,000\nR & D <b> a -> b\n"
    )


def test_webvtt() -> None:
    assert vtt(SEGMENTS) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nGood morning.\n\n"
        "01:01:01.020 --> 100:00:00.000\nR &amp; D &lt;b&gt; a --&gt; b\n"
    )


def test_no_speech_has_no_cues() -> None:
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"


def test_a_cue_lasts_and_none_begins_before_the_one_before_it() -> None:
    found = srt([segment(2, 2, "a"), segment(1.9, 3, "b")])
    assert "00:00:02,000 --> 00:00:02,001" in found
    assert "00:00:02,000 --> 00:00:03,000" in found
