"""A server that speaks vLLM-Omni's speech API as its script says: honestly by default, or as badly as servers can."""

from __future__ import annotations

import json

from tests.scripted_omni import Request, Route, ScriptedOmni, answers
from tests.scripted_server import Json
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, tone, tone_file

MODEL = "k2-fsa/OmniVoice"
PATH, VOICES_PATH = "/v1/audio/speech", "/v1/audio/voices"
RATE_HZ = 24_000
S_PER_CHARACTER = 0.06
CODECS = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac"}
WITHOUT_SPEECH = (
    b'{"error":{"message":"No diffusion stage found","type":"Internal Server Error","param":null,"code":500}}'
)


class ScriptedSpeechServer(ScriptedOmni):
    """A speech is a tone that is as long as the text."""

    def __init__(self, model: str = MODEL) -> None:
        super().__init__(model)
        self.voices = ["anna", "default"]

    def said(self) -> list[Json]:
        """The fields of all requests for speech so far."""
        return [fields for _, path, fields in self.seen if path == PATH]

    def honest(self, request: Request, fields: Json) -> None:
        """As a vLLM-Omni server with a speech model answers."""
        if request.path == VOICES_PATH:
            uploaded = [{"name": "anna", "consent": "1", "created_at": 1, "file_size": 9, "mime_type": "audio/wav"}]
            request.answer(json.dumps({"voices": self.voices, "uploaded_voices": uploaded}).encode())
        elif request.path != PATH:
            super().honest(request, fields)
        elif fields.get("voice", "default") not in self.voices:
            known = ", ".join(self.voices)
            message = f"Invalid voice '{fields['voice']}'. Supported: {known}"
            error = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}
            request.answer(json.dumps(error).encode(), 400)
        else:
            kind = fields["response_format"]
            request.answer(speech(fields["input"], kind, fields["speed"]), Content_Type=f"audio/{kind}")


def speech(text: str, kind: str = "wav", speed: float = 1.0) -> bytes:
    """A tone that is as long as a text."""
    return tone_file(kind, CODECS[kind], RATE_HZ, seconds=round(max(0.2, S_PER_CHARACTER * len(text) / speed), 2))


def _noise_then_silence(seconds: float) -> bytes:
    return audio_file(rate=16_000, samples=[*tone(16_000, 0.1), *[0.0] * round(16_000 * seconds)])  # type: ignore[arg-type]


FAILURES: dict[str, tuple[Route, str]] = {
    "silent": (answers(raw_wav(bytes(2 * RATE_HZ), rate=RATE_HZ)), "silent for all of its 1.00 s"),
    "no samples": (answers(raw_wav(b"", rate=RATE_HZ)), "silent for all of its 0.00 s"),
    "empty": (answers(b""), "is empty"),
    "too short": (answers(speech("Hi")), "can be heard of its"),
    "too long": (answers(audio_file(rate=8_000, seconds=400)), "longer than"),
    "cut WAV": (answers(raw_wav(pcm(tone(RATE_HZ, 2)), rate=RATE_HZ, data_size=10**6)), "cut off"),
    "cut FLAC": (answers(audio_file("flac", "flac", RATE_HZ, seconds=4)[:20_000]), "instead of wav"),
    "another format": (answers(audio_file("mp3", "libmp3lame", RATE_HZ, seconds=4)), "mp3 instead of wav"),
    "a page": (answers(b"<html>hello</html>"), "not audio"),
    "JSON error with 200": (answers(b'{"error":{"message":"The talker is busy"}}'), "The talker is busy"),
    "JSON": (answers(b'{"audio":"UklGRg=="}'), "did not respond as a vLLM-Omni server does"),
    "no speech here": (answers(WITHOUT_SPEECH, 500), "No diffusion stage found"),
    "no such path": (answers(b'{"detail":"Not Found"}', 404), "does not offer this"),
}
"""What a server answers, and what the error says of it; the text is one of fifty letters."""
