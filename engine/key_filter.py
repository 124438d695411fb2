"""A server's key, kept out of its own answers: some echo what they were sent, in pieces as they come."""

from __future__ import annotations

LEAST_KEY_CHARACTERS = 4
"""A shorter key is none, and leaving it out would only garble words."""
IN_ITS_PLACE = "…"


class KeyFilter:
    """Takes the key out of texts.

    Arguments: the key, `None` where there is none to hide.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = key if key is not None and len(key) >= LEAST_KEY_CHARACTERS else None
        self._held = ""

    def whole(self, text: str) -> str:
        """A complete text without the key."""
        return text if self._key is None else text.replace(self._key, IN_ITS_PLACE)

    def next(self, piece: str) -> str:
        """What of a stream can be shown after this piece: what may be the key's beginning waits for the next one."""
        if self._key is None:
            return piece
        text = self.whole(self._held + piece)
        longest = min(len(self._key) - 1, len(text))
        n_held = next((n for n in range(longest, 0, -1) if self._key.startswith(text[-n:])), 0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]
