"""What a provider offers, its models, and what a request to it may carry beside text and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model to choose. `modalities` and `context_length` (tokens) are `None` where nobody tells them."""

    id: str
    modalities: tuple[str, ...] | None = None
    context_length: int | None = None

    def takes(self, modality: str) -> bool | None:
        """Whether it takes text, image, audio or video; `None`: not known."""
        return None if self.modalities is None else modality in self.modalities


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Sound as WAV, or a film, to send with a prompt."""

    kind: Literal["audio", "video"]
    data: bytes
    mime_type: str
