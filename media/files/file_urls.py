"""`file:` URLs of paths, and the paths of such URLs."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

from media.errors import MediaForbidden, shown
from media.files.unsafe_names import ON_WINDOWS
from settings.windows_paths import windows_path_of_url


def url_of_path(path: str, on_windows: bool = ON_WINDOWS) -> str:
    """The URL of an absolute path: `file:///home/me/a%20b.png`, on Windows `file:///C:/Users/me/a%20b.png`."""
    if not on_windows:
        return "file://" + quote(os.fsencode(path))
    path = path.replace("\\", "/")
    begin = "file:" if path.startswith("//") else "file:///"
    return begin + quote(path.encode("utf-8", "surrogatepass"), safe="/:")


def path_of_file_url(url: str) -> str:
    """The absolute path of a `file:` URL; raises `MediaForbidden` for other machines and invalid forms.

    `?` and `#` are part of the path.
    """
    rest = url[len("file:") :]
    host = ""
    if (windows_path := windows_path_of_url(_unquoted(rest, url))) is not None:
        return windows_path
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
    if host.casefold() not in ("", "localhost") or rest.startswith("//") or "\\" in rest:
        raise MediaForbidden(f"The URL {shown(url)} names another machine; only files of this machine are read.")
    if not rest.startswith("/"):
        raise MediaForbidden(f"The URL {shown(url)} has no absolute path; it must look like file:///folder/name.")
    return _unquoted(rest, url)


def _unquoted(rest: str, url: str) -> str:
    try:
        return os.fsdecode(unquote_to_bytes(rest))
    except UnicodeEncodeError:
        raise MediaForbidden(f"The URL {shown(url)} is not a valid file name.") from None
