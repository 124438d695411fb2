"""Fuzzes the decoding of media: `python -m tests.fuzz.media_files --count 20000 --seed 1`.

Good files of every format are changed by their structure and decoded as the server decodes them. Each is to be decoded
or refused with one of our errors, within its time, while its child stays within the memory that it is allowed and this
process does not grow. Which file is which follows from the seed and its number alone.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from PIL import Image

from media.call_limits import CallLimits
from media.decoder import Decoder
from media.decoding import containers, frames, video
from media.decoding import images as decoding
from media.errors import MediaCancelled, MediaError
from sandbox.pool import Sandbox
from tests.fuzz.media_mutations import mutated
from tests.unit.media.hostile_files import huge_tile, mp4, tiff
from tests.unit.media.sample_media import audio_file, video_file

MAX_PIXELS = 1_000_000
MAX_AUDIO_S = 60.0
N_FRAMES = 6
CALL_S = 3.0
"""The deadline of each call, as a host would set it; the work ends with it."""
LATE_S = 3.0
"""How much later an answer may come on a busy machine: a child is killed and awaited, another one started."""
CHILD_BYTES = 110 << 20
"""What a child holds of its own: 55 MB with FFmpeg's libraries, memory kept for the next file, and the shared area."""
MAX_GROWTH_BYTES = 150 << 20
LOOK_S = 0.004


@dataclass(frozen=True)
class Way:
    """A way to decode a file, and the memory that its child may hold meanwhile."""

    decode: Callable[[bytes, CallLimits], object]
    max_bytes: int


@dataclass
class Report:
    """What a run has come to: how many files were decoded, refused, or not done in time, and what broke a promise."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    peak_child_bytes: int = 0
    growth_bytes: int = 0
    longest_s: float = 0.0
    took_s: float = 0.0


def corpus() -> dict[str, bytes]:
    """Small good files, by name."""
    image = Image.effect_mandelbrot((60, 40), (-3, -2.5, 2, 2.5), 50).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    files = {
        "jpeg": _saved(image, "JPEG", exif=exif),
        "progressive jpeg": _saved(image, "JPEG", progressive=True, icc_profile=b"p" * 500),
        "grey jpeg": _saved(image.convert("L"), "JPEG"),
        "cmyk jpeg": _saved(image.convert("CMYK"), "JPEG"),
        "png": _saved(image, "PNG", dpi=(72, 72)),
        "palette png": _saved(image.convert("P"), "PNG", transparency=3),
        "apng": _saved(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        "webp": _saved(image, "WEBP", exif=exif),
        "lossless webp": _saved(image, "WEBP", lossless=True),
        "animated webp": _saved(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "gif": _saved(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        "bmp": _saved(image, "BMP"),
        "palette bmp": _saved(image.convert("P"), "BMP"),
        "tiled tiff": huge_tile(64, 64),
        "deep tiff": _saved(Image.new("I;16", (60, 40), 40_000), "TIFF"),
        "float tiff": _saved(Image.new("F", (60, 40), 0.5), "TIFF"),
        "tiny tiff": tiff({256: (4, 1, 4), 257: (4, 1, 4), 262: (3, 1, 1), 273: (4, 1, 8)}, bytes(16)),
        "plain mp4": mp4(),
        "mp4": video_file(audio="aac"),
        "mpeg4 mp4": video_file(codec="mpeg4"),
        "fragmented mp4": _fragmented(video_file(audio="aac")),
        "mov": video_file("mov", "mjpeg", audio="pcm_s16le"),
        "webm": video_file("webm", "libvpx", audio="libopus"),
        "matroska": video_file("matroska", "libx264", audio="flac"),
        "wav": audio_file(seconds=0.3),
        "aiff": audio_file("aiff", "pcm_s16be", seconds=0.3),
        "flac": audio_file("flac", "flac", seconds=0.3, tags={"title": "a"}),
        "mp3": audio_file("mp3", "libmp3lame", seconds=0.3, tags={"title": "a"}),
        "ogg": audio_file("ogg", "libopus", rate=48_000, seconds=0.3, tags={"title": "a"}),
        "m4a": audio_file("ipod", "aac", seconds=0.3, tags={"title": "a"}),
    }
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        mode = "1" if name == "group4" else "RGB"
        files[f"{name} tiff"] = _saved(image.convert(mode), "TIFF", compression=name)
    return files


def fuzz(count: int, seed: int, n_threads: int = 2) -> Report:
    """Decodes so many changed files and watches what that takes."""
    report, files = Report(), corpus()
    sandbox = Sandbox()
    ways = _ways(Decoder(sandbox))
    begun_s, before = time.monotonic(), _resident("self")
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            _one(seed, number, files, ways, report, lock)

    with _Watch(sandbox, report, before, max(way.max_bytes for way in ways.values())):
        threads = [threading.Thread(target=work) for _ in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if Decoder(sandbox).image(files["gif"], MAX_PIXELS).size != (60, 40):
            report.findings.append("A good file is not decoded afterwards.")
    sandbox.close()
    report.took_s = time.monotonic() - begun_s
    return report


def _one(
    seed: int, number: int, files: dict[str, bytes], ways: dict[str, Way], report: Report, lock: threading.Lock
) -> None:
    chance = random.Random(f"{seed}/{number}")
    name = chance.choice(sorted(files))
    data = mutated(files[name], chance)
    is_image = any(word in name for word in ("jpeg", "png", "webp", "gif", "bmp", "tiff"))
    way = chance.choice(sorted(way for way in ways if (way == "image") == is_image or chance.random() < 0.02))
    begun_s, outcome, broken = time.monotonic(), "decoded", None
    try:
        ways[way].decode(data, CallLimits(deadline_s=begun_s + CALL_S))
    except MediaCancelled:
        outcome = "not in time"
    except MediaError as error:
        outcome = "crashed" if "crashed" in str(error) else "refused"
    except Exception as error:
        broken = f"raised {error!r}"
    took_s = time.monotonic() - begun_s
    if took_s > CALL_S + LATE_S and way not in ("check", "poster"):
        broken = f"took {took_s:.1f} s"
    with lock:
        report.counts[outcome] += 1
        report.longest_s = max(report.longest_s, took_s)
        if broken:
            report.findings.append(f"seed {seed}, number {number}: a changed {name} ({way}) {broken}")


def _ways(decoder: Decoder) -> dict[str, Way]:
    opening, made = containers.OPENING_BYTES, video.GENERATED_BYTES_PER_PIXEL * video.MAX_GENERATED_PIXELS
    return {
        "image": Way(
            lambda data, limits: decoder.image(data, MAX_PIXELS, limits=limits), decoding.memory_bytes(MAX_PIXELS)
        ),
        "audio": Way(lambda data, limits: decoder.audio(data, MAX_AUDIO_S, limits), opening + (64 << 20)),
        "clip": Way(
            lambda data, limits: decoder.clip(data, MAX_PIXELS, limits),
            opening + video.CLIP_BYTES_PER_PIXEL * MAX_PIXELS,
        ),
        "frames": Way(
            lambda data, limits: decoder.frames(data, N_FRAMES, MAX_PIXELS, limits=limits),
            frames.memory_bytes(MAX_PIXELS),
        ),
        "moves": Way(decoder.has_video, opening),
        "check": Way(lambda data, limits: decoder.check_video(data, CALL_S), opening + made),
        "poster": Way(decoder.poster, opening + made),
    }


class _Watch:
    """Looks at the memory of the children and of this process all the time."""

    def __init__(self, sandbox: Sandbox, report: Report, before: int, max_bytes: int) -> None:
        self._sandbox, self._report, self._before = sandbox, report, before
        self._max_bytes = max_bytes + CHILD_BYTES
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        report = self._report
        if report.peak_child_bytes > self._max_bytes:
            report.findings.append(f"A child held {report.peak_child_bytes >> 20} MiB.")
        if report.growth_bytes > MAX_GROWTH_BYTES:
            report.findings.append(f"This process grew by {report.growth_bytes >> 20} MiB.")

    def _look(self) -> None:
        report = self._report
        while not self._ended.wait(LOOK_S):
            held = [_resident(str(process)) for process in self._sandbox.process_ids()]
            report.peak_child_bytes = max(report.peak_child_bytes, *held, 0)
            report.growth_bytes = max(report.growth_bytes, _resident("self") - self._before)


def _resident(process: str) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _fragmented(data: bytes) -> bytes:
    """The same film in fragments, each with an index of its own."""
    import av

    made = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(io.BytesIO(data), "r") as source, av.open(made, "w", format="mp4", options=options) as out:
        streams = {stream.index: cast(Any, out).add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    index = struct.pack(">IIIHH", 1, 1_000, 0, 0, 0) + bytes(8)
    sidx = struct.pack(">I", 12 + len(index)) + b"sidx" + bytes(4) + index
    at = made.getvalue().index(b"moof") - 4
    return made.getvalue()[:at] + sidx + made.getvalue()[at:]


def main() -> int:
    """Runs, and shows what came of it; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.media_files", description="Fuzzes decoding.")
    parser.add_argument("--count", type=int, default=20_000, help="how many files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="where chance begins (default: %(default)s)")
    options = parser.parse_args()
    report = fuzz(options.count, options.seed)
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(report.counts.items()))
    print(
        f"{options.count:,} files: {outcomes}; the largest child held {report.peak_child_bytes >> 20} MiB, "
        f"this process grew by {report.growth_bytes >> 20} MiB, the longest took {report.longest_s:.1f} s; "
        f"{report.took_s:.0f} s in all"
    )
    print(*report.findings[:20], sep="\n", end="")
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
