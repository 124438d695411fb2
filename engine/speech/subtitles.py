"""Subtitles: SubRip (.srt) and WebVTT (.vtt, https://www.w3.org/TR/webvtt1/)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.speech.segments import Segment


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues with a comma before the milliseconds; empty without segments."""
    return "\n".join(
        f"{number}\n{_time(start_ms, ',')} --> {_time(end_ms, ',')}\n{_line(text).replace('-->', '->')}\n"
        for number, (start_ms, end_ms, text) in enumerate(_cues(segments), 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT: a header, and cues whose text is escaped."""
    cues = [
        f"\n{_time(start_ms, '.')} --> {_time(end_ms, '.')}\n{_escaped(_line(text))}\n"
        for start_ms, end_ms, text in _cues(segments)
    ]
    return "WEBVTT\n" + "".join(cues)


def _cues(segments: Sequence[Segment]) -> list[tuple[int, int, str]]:
    """The times in milliseconds and the texts: a cue lasts at least one, and none begins before the one before it."""
    cues: list[tuple[int, int, str]] = []
    for segment in segments:
        start_ms = max(round(segment.start_s * 1_000), cues[-1][0] if cues else 0)
        cues.append((start_ms, max(round(segment.end_s * 1_000), start_ms + 1), segment.text))
    return cues


def _time(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


def _line(text: str) -> str:
    """One line: an empty line would end the cue."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
