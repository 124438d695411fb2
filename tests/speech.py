"""Speech for tests, as espeak-ng says it, and how many words of it a transcript has wrong.

    wav = speech("Where is the harbour?", "en-us")
    word_error_rate("Where is the harbour?", "where is a harbor")  # 0.5

The voice is a robot's, and the same text always gives the same samples.
"""

from __future__ import annotations

import ctypes
import functools
import io
import re
import threading
import unicodedata
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e import real_models

SAMPLE_RATE = 22_050
"""espeak-ng's own, in Hz; its samples are 16-bit integers of one channel."""
# From speak_lib.h of espeak-ng 1.52.
_SYNCHRONOUS, _DONT_EXIT, _RATE, _UTF8, _POS_CHARACTER = 2, 0x8000, 1, 1, 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_LOCK = threading.Lock()
"""espeak-ng has one state for the whole process."""


def speech(text: str, voice: str = "en-us", words_per_minute: int = 140, *, pauses_s: Sequence[float] = ()) -> bytes:
    """A WAV file of the text: mono, 16 bits, `SAMPLE_RATE`.

    Arguments:
        voice: espeak-ng's name of a language: `en-us`, `de`, `fr`, `es`.
        pauses_s: silence before the text and after it, in seconds.

    Skips the calling test where espeak-ng cannot be fetched.
    """
    samples = _samples(text, voice, words_per_minute)
    before, after = (*pauses_s, 0.0, 0.0)[:2]
    return wav(_silence(before) + samples + _silence(after))


def silence(duration_s: float) -> bytes:
    """A WAV file of nothing, in the same form."""
    return wav(_silence(duration_s))


def wav(samples: bytes) -> bytes:
    """A WAV file of 16-bit samples of one channel at `SAMPLE_RATE`."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes(samples)
    return file.getvalue()


def duration_s(wav_file: bytes) -> float:
    """How long a WAV file plays."""
    with wave.open(io.BytesIO(wav_file)) as reader:
        return float(reader.getnframes() / reader.getframerate())


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; apostrophes stay, as in "it's"."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Words to replace, insert and remove to get from one text to the other, for each word of the reference.

    Raises: `ZeroDivisionError` for a reference without words.
    """
    expected, found = words(reference), words(hypothesis)
    distances = list(range(len(found) + 1))
    for n, word in enumerate(expected, 1):
        diagonal, distances[0] = distances[0], n
        for m, other in enumerate(found, 1):
            diagonal, distances[m] = (
                distances[m],
                min(diagonal + (word != other), distances[m] + 1, distances[m - 1] + 1),
            )
    return distances[-1] / len(expected)


def _silence(duration_s: float) -> bytes:
    return bytes(2 * round(duration_s * SAMPLE_RATE))


@functools.lru_cache(maxsize=32)
def _samples(text: str, voice: str, words_per_minute: int) -> bytes:
    found = bytearray()

    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            found.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(take)
    with _LOCK:
        library = _library()
        if library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(_RATE, words_per_minute, 0)
        library.espeak_SetSynthCallback(callback)
        data = text.encode() + b"\0"
        if library.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _UTF8, None, None):
            raise RuntimeError("espeak-ng could not say the text")
        library.espeak_Synchronize()
    return bytes(found)


@functools.cache
def _library() -> ctypes.CDLL:
    folder = Path(real_models.folder("espeak-ng"))
    library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
    library.espeak_Synth.argtypes = (
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
        *(ctypes.c_void_p, ctypes.c_void_p),
    )
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DONT_EXIT)
    if rate != SAMPLE_RATE:
        raise RuntimeError(f"espeak-ng answered {rate}, not its sample rate")
    return library
