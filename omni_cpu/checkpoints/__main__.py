"""`python -m omni_cpu.checkpoints NAME FOLDER` builds a tiny checkpoint in FOLDER, unless it exists.

Prints the path of the checkpoint on stdout; everything that libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

BUILD = 4
"""Increased when a builder changes, so that old checkpoints are not used."""
NAMES = ("klein", "qwen-image", "z-image", "wan-s2v", "wan-t2v", "wan-ti2v", "wan-i2v", "omnivoice")


def built(name: str, folder: Path) -> Path:
    """The checkpoint in `folder`; builds it if it does not exist."""
    target = folder.resolve() / str(BUILD) / f"tiny-{name}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{name}-draft-"))
        try:
            _save(name)(draft)
            with contextlib.suppress(OSError):  # another process was faster
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _save(name: str) -> Callable[[Path], None]:
    if name == "wan-s2v":
        from omni_cpu.checkpoints import talking_video

        return talking_video.save_wan_s2v
    if name == "omnivoice":
        from omni_cpu.checkpoints import speech

        return speech.save_omnivoice
    if name.startswith("wan-"):
        from omni_cpu.checkpoints import video

        return {"wan-t2v": video.save_wan_t2v, "wan-ti2v": video.save_wan_ti2v, "wan-i2v": video.save_wan_i2v}[name]
    from omni_cpu.checkpoints import images

    return {"klein": images.save_klein, "qwen-image": images.save_qwen_image, "z-image": images.save_z_image}[name]


def main() -> None:
    """Builds the checkpoint that the command line names."""
    name, folder = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        checkpoint = built(name, Path(folder))
    sys.stdout.write(f"{checkpoint}\n")


if __name__ == "__main__":
    main()
