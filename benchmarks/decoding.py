"""The cost of the decoding child: an image decoded in the child against the same decoding in this process."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import msgspec
from PIL import Image

from benchmarks.results import Bound, Cell, Requirement, Table
from benchmarks.samples import Spread, spread
from media.decoder import Decoder
from media.decoding.images import decode
from media.decoding.safe_images import safe_image
from sandbox.pool import Sandbox

SIZES = {"64 × 64": (64, 64), "2 megapixels": (1_600, 1_250), "24 megapixels": (6_000, 4_000)}
FORMATS = ("JPEG", "PNG", "progressive JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
SMALL_PIXELS = 2_000_000
REQUIRED_MS = 2.0
"""The maximum difference to decoding in this process, for up to 2 megapixels, warm."""
LARGE_ROUNDS = 5


class Cost(msgspec.Struct, frozen=True):
    """One image's times in milliseconds in this process and in the child, and their difference."""

    name: str
    n_pixels: int
    in_child: bool
    here_ms: Spread
    there_ms: Spread
    more_ms: Spread


def measure(n_rounds: int) -> list[Cost]:
    """Every format in every size."""
    sandbox = Sandbox()
    try:
        decoder = Decoder(sandbox)
        return [
            _cost(f"{format}, {name}", size, _saved(size, format), decoder, n_rounds)
            for name, size in SIZES.items()
            for format in FORMATS
        ]
    finally:
        sandbox.close()


def table(costs: list[Cost]) -> Table:
    """One row an image."""
    rows: list[list[Cell]] = [
        [
            cost.name,
            "a child" if cost.in_child else "here",
            cost.here_ms.median,
            cost.there_ms.median,
            cost.more_ms.median,
        ]
        for cost in costs
    ]
    return Table("What the decoding child costs", ["image", "decoded in", "ms here", "ms as served", "ms more"], rows)


def requirements(costs: list[Cost]) -> list[Requirement]:
    """The bound for images of up to 2 megapixels."""
    worst = max((cost for cost in costs if cost.n_pixels <= SMALL_PIXELS), key=lambda cost: cost.more_ms.median)
    what = "The decoding child, images of up to 2 megapixels, warm: ms more than here"
    return [
        Requirement(
            what,
            worst.more_ms.median,
            Bound.AT_MOST,
            REQUIRED_MS,
            low=worst.more_ms.low,
            high=worst.more_ms.high,
            unit=" ms",
        )
    ]


def _cost(name: str, size: tuple[int, int], data: bytes, decoder: Decoder, n_rounds: int) -> Cost:
    n_pixels = size[0] * size[1]
    n_rounds = n_rounds if n_pixels <= SMALL_PIXELS else min(n_rounds, LARGE_ROUNDS)
    here, there = [], []
    for _ in range(n_rounds + 1):
        here.append(_ms(lambda: decode(data, MAX_PIXELS)))
        there.append(_ms(lambda: decoder.image(data, MAX_PIXELS)))
    more = [after - before for before, after in zip(here[1:], there[1:], strict=True)]
    return Cost(name, n_pixels, safe_image(data) is None, spread(here[1:]), spread(there[1:]), spread(more))


def _ms(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - begun_s)


def _saved(size: tuple[int, int], format: str) -> bytes:
    image = Image.effect_mandelbrot((800, 600), (-3, -2.5, 2, 2.5), 50).convert("RGB").resize(size)
    buffer = io.BytesIO()
    if format == "progressive JPEG":
        image.save(buffer, "JPEG", progressive=True)
    else:
        image.save(buffer, format)
    return buffer.getvalue()
