"""Whatever a file asks for, its child keeps within bounds, the call gets an error, and the next one is served."""

from __future__ import annotations

import contextlib
import io
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from media.call_limits import CallLimits
from media.decoder import Decoder
from media.decoding.images import decode
from media.decoding.safe_images import safe_image
from media.decoding.webp import canvas_size
from media.errors import MediaCancelled, MediaError, MediaTooLarge, MediaUnreadable
from sandbox.cancellation import Cancellation
from sandbox.pool import Sandbox
from tests.unit.media import hostile_files
from tests.unit.media.sample_media import audio_file, video_file

pytestmark = pytest.mark.slow

MAX_PIXELS = 50_000_000
MAX_GROWTH_BYTES = 300 << 20
"""Of a child and of this process; a child with FFmpeg's libraries holds 55 MB before it does anything."""


class Watch:
    """The most memory that a sandbox's children and this process held at a time."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._ended = threading.Event()
        self._before = _resident("self")
        self.most = 0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            held = sum(map(_resident, map(str, self._sandbox.process_ids())))
            self.most = max(self.most, held + _resident("self") - self._before)


def _resident(process: str) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


@pytest.fixture
def decoder(sandbox: Sandbox) -> Decoder:
    return Decoder(sandbox)


def png_file(size: tuple[int, int] = (20, 10)) -> bytes:
    return saved(Image.effect_mandelbrot(size, (-3, -2.5, 2, 2.5), 50).convert("RGB"), "PNG")


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def assert_bounded(sandbox: Sandbox, read: Callable[[], object], limit_s: float = 20) -> None:
    began_s = time.monotonic()
    with Watch(sandbox) as watch, contextlib.suppress(MediaError):
        read()
    assert watch.most < MAX_GROWTH_BYTES, f"{watch.most >> 20} MiB"
    assert time.monotonic() - began_s < limit_s


@pytest.mark.parametrize("name", hostile_files.swollen_mp4s())
def test_tables_of_an_mp4_take_no_memory(decoder: Decoder, sandbox: Sandbox, name: str) -> None:
    data = hostile_files.swollen_mp4s()[name]
    for read in (
        decoder.has_video,
        lambda data: decoder.audio(data, 60),
        lambda data: decoder.speech(data, 14_400),
        lambda data: decoder.clip(data, MAX_PIXELS),
        lambda data: decoder.frames(data, 256, MAX_PIXELS),
    ):
        assert_bounded(sandbox, lambda read=read: read(data))  # type: ignore[misc]
    assert_bounded(sandbox, lambda: decoder.check_video(data))
    assert decoder.audio(audio_file(seconds=1), 9).duration_s == pytest.approx(1, abs=0.1)


HOSTILE_IMAGES: dict[str, Callable[[], bytes]] = {
    "a tile of a gigabyte": hostile_files.huge_tile,
    "a strip of a gigabyte": hostile_files.huge_strip,
    "overlapping tags": hostile_files.overlapping_tags,
    "a canvas above the limit": hostile_files.webp_canvas,
    "many frames": hostile_files.gif_frames,
    "a packed text": lambda: hostile_files.png(hostile_files.packed_chunk(b"zTXt")),
    "a packed profile": lambda: hostile_files.png(hostile_files.packed_chunk(b"iCCP")),
    "overlapping EXIF data": lambda: _with_exif(_overlapping_exif()),
}


@pytest.mark.parametrize("name", HOSTILE_IMAGES)
@pytest.mark.slow
def test_images_take_no_more_memory_than_their_size_says(decoder: Decoder, sandbox: Sandbox, name: str) -> None:
    data = HOSTILE_IMAGES[name]()
    assert_bounded(sandbox, lambda: decoder.image(data, MAX_PIXELS))


SLOW_IMAGES: dict[str, Callable[[], bytes]] = {
    "overlapping strips": hostile_files.overlapping_strips,
    "empty scans": hostile_files.empty_scans,
    "pieces of EXIF data": hostile_files.exif_pieces,
}


@pytest.mark.parametrize("name", SLOW_IMAGES)
def test_decoding_ends_with_its_call(decoder: Decoder, sandbox: Sandbox, name: str) -> None:
    data = SLOW_IMAGES[name]()
    began_s = time.monotonic()
    with pytest.raises(MediaCancelled):
        decoder.image(data, MAX_PIXELS, limits=CallLimits(deadline_s=time.monotonic() + 0.5))
    cancellation = Cancellation()
    threading.Timer(0.5, cancellation.set).start()
    with pytest.raises(MediaCancelled):
        decoder.image(data, MAX_PIXELS, limits=CallLimits(cancellation))
    assert time.monotonic() - began_s < 15
    assert decoder.image(saved(Image.new("RGB", (9, 9), "red"), "GIF"), MAX_PIXELS).size == (9, 9)


def test_an_image_has_its_own_timeout(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.decoder.IMAGE_TIMEOUT_S", 0.5)
    monkeypatch.setattr("media.decoder.MARGIN_S", 0.0)
    with pytest.raises(MediaTooLarge, match=r"more than 0.5 s to decode"):
        decoder.image(hostile_files.empty_scans(), MAX_PIXELS)


def test_safe_images_do_not_wait_for_hostile_files() -> None:
    """Not even when every child works on one; what needs a child waits as long as its own call does."""
    alone = Sandbox(n_children=1)
    decoder, ended = Decoder(alone), Cancellation()
    data, gif = hostile_files.empty_scans(), saved(Image.new("RGB", (9, 9)), "GIF")

    def occupy() -> None:
        with pytest.raises(MediaCancelled):
            decoder.image(data, MAX_PIXELS, limits=CallLimits(ended))

    thread = threading.Thread(target=occupy)
    thread.start()
    try:
        while not alone.process_ids():
            time.sleep(0.01)
        assert decoder.image(png_file(), MAX_PIXELS).size == (20, 10)
        with pytest.raises(MediaCancelled):
            decoder.image(gif, MAX_PIXELS, limits=CallLimits(deadline_s=time.monotonic() + 0.1))
    finally:
        ended.set()
        thread.join()
    assert decoder.image(gif, MAX_PIXELS).size == (9, 9)
    alone.close()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (1_500, 1_300)])
def test_a_child_returns_the_same_pixels(decoder: Decoder, format: str, size: tuple[int, int]) -> None:
    data = saved(Image.effect_mandelbrot(size, (-3, -2.5, 2, 2.5), 50).convert("RGB"), format)
    here, there = decode(data, MAX_PIXELS), decoder.image(data, MAX_PIXELS)
    assert (there.mode, there.size, there.info) == ("RGB", size, {})
    assert ImageChops.difference(here, there).getbbox() is None


def test_a_large_image_comes_back_whole(decoder: Decoder) -> None:
    image = Image.linear_gradient("L").resize((6_000, 5_000)).convert("RGB")
    found = decoder.image(saved(image, "TIFF", compression="tiff_lzw"), MAX_PIXELS)
    assert ImageChops.difference(image, found).getbbox() is None


def test_large_formats_are_drafted_in_the_child_as_well(decoder: Decoder) -> None:
    data = saved(Image.new("RGB", (1_600, 800), "red"), "JPEG", progressive=True)
    assert decoder.image(data, MAX_PIXELS, longest_side=400).size == (400, 200)


def test_the_errors_of_a_child_are_those_of_decoding(decoder: Decoder) -> None:
    data = saved(Image.new("RGB", (100, 50)), "GIF")
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_PIXELS allows 100"):
        decoder.image(data, 100)
    with pytest.raises(MediaUnreadable, match="not an image"):
        decoder.image(b"nothing", 100)
    with pytest.raises(MediaUnreadable, match="no audio in this file"):
        decoder.audio(video_file(audio=None), 60)


def test_deep_grey_works_within_the_allowance(decoder: Decoder) -> None:
    """Its conversion is the work of another library, whose import does not count."""
    image = Image.new("I;16", (200, 100), 40_000)
    assert decoder.image(saved(image, "TIFF"), MAX_PIXELS).getpixel((5, 5)) == (156, 156, 156)


def _with_exif(exif: bytes, plain: bytes | None = None) -> bytes:
    found = hostile_files.jpeg((40, 30)) if plain is None else plain
    return found[:2] + hostile_files.segment(0xE1, b"Exif\0\0" + exif) + found[2:]


def _overlapping_exif(n_tags: int = 4_000) -> bytes:
    """Tags whose values are the whole of the data each."""
    n_bytes = 12 * n_tags
    entries = b"".join(
        (0x8000 + number).to_bytes(2, "little") + b"\1\0" + n_bytes.to_bytes(4, "little") + (8).to_bytes(4, "little")
        for number in range(n_tags)
    )
    return b"II*\0\x08\0\0\0" + n_tags.to_bytes(2, "little") + entries + bytes(4)


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.linear_gradient("L").resize((40, 30)).convert("RGB"), "JPEG", exif=exif)


PLAIN: dict[str, Callable[[], bytes]] = {
    "a JPEG": lambda: hostile_files.jpeg((40, 30)),
    "a grey JPEG": lambda: saved(Image.new("L", (40, 30)), "JPEG"),
    "a JPEG of four inks": lambda: saved(Image.new("CMYK", (40, 30), (9, 99, 199, 29)), "JPEG"),
    "a JPEG with a profile": lambda: hostile_files.jpeg((40, 30), icc_profile=b"p" * 3_000),
    "a JPEG with a comment": lambda: hostile_files.jpeg((40, 30), comment="A comment."),
    "a JPEG with restarts": lambda: hostile_files.jpeg((400, 300), restart_marker_blocks=4),
    **{f"a JPEG turned to {number}": lambda number=number: _turned(number) for number in range(0, 10)},  # type: ignore[misc]
    "a PNG": png_file,
    "a PNG with a palette": lambda: saved(Image.new("P", (40, 30), 3), "PNG"),
    "a PNG with one transparent colour": lambda: saved(Image.new("L", (40, 30), 3), "PNG", transparency=3),
    "a PNG with alpha": lambda: saved(Image.new("RGBA", (40, 30), (9, 99, 199, 99)), "PNG"),
    "a PNG of 16 bits": lambda: saved(Image.new("I;16", (40, 30), 40_000), "PNG"),
    "a PNG with a resolution": lambda: saved(Image.new("RGB", (40, 30)), "PNG", dpi=(72, 72)),
    "a PNG with a profile": lambda: saved(Image.new("RGB", (40, 30)), "PNG", icc_profile=b"p" * 3_000),
    "a PNG with a text": lambda: hostile_files.png(hostile_files.chunk(b"iTXt", b"parameters\0\0\0\0\0{}")),
    "a PNG with something behind it": lambda: png_file() + b"something",
}


@pytest.mark.parametrize("name", PLAIN)
def test_safe_images_are_decoded_in_process_with_the_same_result(name: str) -> None:
    data = PLAIN[name]()
    plain = safe_image(data)
    assert plain is not None
    assert len(plain.data) <= len(data)
    here, whole = decode(plain.data, MAX_PIXELS, orientation=plain.orientation), decode(data, MAX_PIXELS)
    assert here.size == whole.size
    assert ImageChops.difference(here, whole).getbbox() is None


NOT_SAFE: dict[str, Callable[[], bytes]] = {
    "a progressive JPEG": lambda: hostile_files.jpeg((40, 30), progressive=True),
    "a JPEG cut off": lambda: hostile_files.jpeg((400, 300))[:-40],
    "a JPEG with much beside it": lambda: _with_exif(b"II*\0\x08\0\0\0\0\0" + bytes(65_000)),
    "a JPEG with two pieces of EXIF data": lambda: _with_exif(b"II*\0\x08\0\0\0\0\0", _turned(3)),
    "a JPEG with broken EXIF data": lambda: _with_exif(b"nothing"),
    "a JPEG with many tags": lambda: _with_exif(_overlapping_exif(500)),
    "a JPEG with XMP": lambda: _with_xmp(hostile_files.jpeg()),
    "a JPEG with two scans": lambda: _with_scan(hostile_files.jpeg()),
    "a JPEG with many segments": lambda: hostile_files.jpeg()[:2] + b"\xff\xfe\0\x02" * 99 + hostile_files.jpeg()[2:],
    "a JPEG with padding": lambda: hostile_files.jpeg()[:-2] + b"\xff" * 9 + b"\xff\xd9",
    "a PNG of very many rows": lambda: hostile_files.png(size=(1, 70_000)),
    "a PNG with EXIF data": lambda: saved(Image.new("RGB", (9, 9)), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "a PNG with a packed text": lambda: hostile_files.png(hostile_files.packed_chunk(b"zTXt", 1 << 20)),
    "a PNG with XMP": lambda: hostile_files.png(hostile_files.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0x")),
    "a PNG with EXIF data as text": lambda: hostile_files.png(
        hostile_files.chunk(b"tEXt", b"Raw profile type exif\0x")
    ),
    "a PNG with much beside it": lambda: hostile_files.png(hostile_files.chunk(b"tEXt", b"a\0" + b"x" * 70_000)),
    "an animated PNG": lambda: saved(
        Image.new("RGB", (9, 9)), "PNG", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")]
    ),
    "a PNG in crumbs": lambda: hostile_files.png(hostile_files.chunk(b"IDAT", b"") * 1_000),
    "a PNG with two headers": lambda: hostile_files.png(hostile_files.chunk(b"IHDR", bytes(13))),
    "a PNG without pixels": lambda: hostile_files.png()[:33] + hostile_files.chunk(b"IEND", b""),
    "a PNG cut off": lambda: png_file()[:-5],
    "a GIF": lambda: saved(Image.new("RGB", (9, 9)), "GIF"),
    "nothing": bytes,
}


def _with_xmp(data: bytes) -> bytes:
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    return data[:2] + hostile_files.segment(0xE1, xmp) + data[2:]


def _with_scan(data: bytes) -> bytes:
    return data[:-2] + data[data.index(b"\xff\xda") :]


@pytest.mark.parametrize("name", NOT_SAFE)
def test_doubtful_image_is_not_safe(name: str) -> None:
    assert safe_image(NOT_SAFE[name]()) is None


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
@pytest.mark.parametrize("size", [(1, 1), (700, 33)])
def test_the_size_of_a_webp_is_known_before_it_is_opened(size: tuple[int, int], options: dict[str, object]) -> None:
    assert canvas_size(saved(Image.new("RGB", size), "WEBP", **options)) == size


@pytest.mark.parametrize("data", [b"", b"RIFF", png_file(), b"RIFF\0\0\0\0WAVE" + bytes(40)])
def test_what_is_no_webp_has_no_canvas(data: bytes) -> None:
    assert canvas_size(data) is None
