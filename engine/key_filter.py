"""A server's key, kept out of its own answers: some echo what they were sent, in pieces as they come."""

from __future__ import annotations

LEAST_KEY_CHARACTERS = 4
"""A shorter key is none, and leaving it out would only garble words."""
LEAST_PART_CHARACTERS = 8
"""From here on the beginning of a key at the very end of a text is one that was cut off."""
IN_ITS_PLACE = "…"


class KeyFilter:
    """Takes the key out of texts.

    Arguments: the key, `None` where there is none to hide.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = key if key is not None and len(key) >= LEAST_KEY_CHARACTERS else None
        self._held = ""

    def whole(self, text: str) -> str:
        """A complete text without the key, also where it ends in the middle of one."""
        if self._key is None:
            return text
        text = text.replace(self._key, IN_ITS_PLACE)
        n_begun = self._n_begun(text)
        return text if n_begun < LEAST_PART_CHARACTERS else text[:-n_begun] + IN_ITS_PLACE

    def next(self, piece: str) -> str:
        """What of a stream can be shown after this piece: what may be the key's beginning waits for the next one."""
        if self._key is None:
            return piece
        text = (self._held + piece).replace(self._key, IN_ITS_PLACE)
        n_shown = len(text) - self._n_begun(text)
        self._held = text[n_shown:]
        return text[:n_shown]

    def _n_begun(self, text: str) -> int:
        """How many characters at the text's end may be the key's beginning."""
        assert self._key is not None
        longest = min(len(self._key) - 1, len(text))
        return next((n for n in range(longest, 0, -1) if self._key.startswith(text[-n:])), 0)
