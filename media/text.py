"""Text files, read only from folders that the settings name: whatever reads them may send them on."""

from __future__ import annotations

from collections.abc import Sequence

from media.errors import MediaForbidden, MediaUnreadable, shown
from media.kinds import TEXT
from media.paths import read_file

_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class TextReader:
    """Reads text files. Any thread may call it.

    Arguments: the folders; unlike for pictures, none means that nothing is read. `max_bytes`, of one file.
    """

    def __init__(self, allowed_dirs: Sequence[str] | None, max_bytes: int) -> None:
        self._allowed_dirs = allowed_dirs
        self._max_bytes = max_bytes

    def read(self, path: str) -> str:
        """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

        Raises: `MediaNotFound`, `MediaForbidden`, `MediaTooLarge` or `MediaUnreadable`.
        """
        if not self._allowed_dirs:
            raise MediaForbidden(
                f"The file {shown(path)} is no picture, audio or video, and text files are attached only from the "
                "folders in VLLM_ALLOWED_MEDIA_DIRS, which is not set."
            )
        data = read_file(path, self._allowed_dirs, self._max_bytes, TEXT)
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise MediaUnreadable(f"The file {shown(path)} is no picture, audio, video or text in UTF-8.")
        return text
