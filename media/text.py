"""Reads text files, only from folders that the settings name, because their text is sent to a provider."""

from __future__ import annotations

from collections.abc import Sequence

from media.errors import MediaForbidden, MediaUnreadable, shown
from media.files.paths import read_file
from media.kinds import TEXT

MAX_TEXT_BYTES = 200_000
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class TextReader:
    """Reads text files. Any thread may call it.

    Arguments:
        allowed_dirs: the folders; unlike for images, `None` means that no file is read.
        max_bytes: of one file.
    """

    def __init__(self, allowed_dirs: Sequence[str] | None, max_bytes: int = MAX_TEXT_BYTES) -> None:
        self._allowed_dirs = allowed_dirs
        self._max_bytes = max_bytes

    def read(self, path: str) -> str:
        """Reads a file in UTF-8, or in UTF-16 with a byte order mark.

        Raises: `MediaNotFound`, `MediaForbidden`, `MediaTooLarge` or `MediaUnreadable`.
        """
        if not self._allowed_dirs:
            raise MediaForbidden(
                f"The file {shown(path)} is not an image, audio or video, and text files are attached only from the "
                "folders in VLLM_ALLOWED_MEDIA_DIRS, which is not set."
            )
        data = read_file(path, self._allowed_dirs, self._max_bytes, TEXT)
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise MediaUnreadable(f"The file {shown(path)} is not an image, audio, video or text in UTF-8.")
        return text
