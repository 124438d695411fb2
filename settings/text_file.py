"""Reading the text files that settings name: regular files of limited size, opened without blocking.

They are UTF-8, or UTF-16 with a byte order mark, as Windows PowerShell writes redirected output.
"""

import codecs
import os
import stat

from operating_system.files import open_for_reading

MAX_FILE_BYTES = 1 << 20


class SettingFileError(Exception):
    """The file cannot be used; `str()` completes a sentence about the setting and shows no content of the file."""


def text_of(path: str) -> str:
    """The whole file as text, without a byte order mark; raises `SettingFileError`."""
    try:
        descriptor = open_for_reading(path)
    except (OSError, ValueError) as error:
        raise SettingFileError(f"cannot be read: {getattr(error, 'strerror', None) or 'no such path'}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SettingFileError("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingFileError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise SettingFileError(f"is larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        raise SettingFileError("is not text in UTF-8") from None
