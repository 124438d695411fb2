"""The speech API of a vLLM-Omni server."""

from __future__ import annotations

from typing import Any

import msgspec

from http_client.loose_json import decoded
from http_client.redaction import plain
from omni.client import ASK_TIMEOUT_S, MAX_ASK_BYTES, OmniClient, attempted
from omni.failures import failure

MAX_SPEECH_BYTES = 250_000_000
"""An hour of WAV at 24 kHz, mono, takes 173 MB."""
MAX_BYTES_PER_S = 400_000
"""WAV of 32-bit floats at 48 kHz, stereo, takes 384,000."""
MAX_VOICES = 500


class Voices(msgspec.Struct, frozen=True):
    """The names of a server's voices, and of those among them that somebody uploaded."""

    voices: list[str]
    uploaded: list[str]


class SpeechClient(OmniClient):
    """One server that speaks; see `OmniClient`."""

    url_setting = "OMNI_SPEECH_URL"
    health_tool = "list_available_models"
    too_slow_advice = "Try a shorter text, or raise OMNI_TIMEOUT."

    async def say(self, fields: dict[str, Any], max_s: float) -> bytes:
        """The audio file for the fields of a request; `max_s`, the longest that it may last, limits its size."""
        max_bytes = min(MAX_SPEECH_BYTES, MAX_ASK_BYTES + round(max_s * MAX_BYTES_PER_S))
        async with self.turn():
            data = await attempted(
                lambda: self._answer("POST", "/v1/audio/speech", self.timeout_s, max_bytes, json=fields)
            )
        if data[:1] in (b"{", b"["):
            found, is_json = decoded(data)
            if is_json and isinstance(found, dict) and found.get("error"):
                raise failure(200, found, key=self._key)
            raise self._unexpected(data)
        return data

    async def voices(self) -> Voices:
        """The voices that the server reports. A server with another kind of model reports one, `default`."""
        response = self._decoded(await self._ask("/v1/audio/voices", MAX_ASK_BYTES, ASK_TIMEOUT_S), dict)
        return Voices(_names(response.get("voices")), _names(response.get("uploaded_voices")))


def _names(rows: object) -> list[str]:
    """The names in a list of names or of objects with a name."""
    if not isinstance(rows, list):
        return []
    names = [row.get("name") if isinstance(row, dict) else row for row in rows[:MAX_VOICES]]
    return [plain(name) for name in names if isinstance(name, str) and name.strip()]
