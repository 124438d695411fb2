"""The reader: every kind of reference leads to the same image, decoded once."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from media import image
from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.image import DecodedImage, ImageReader
from settings import MediaSettings
from tests.decoder import DECODER

Encode = Callable[..., bytes]


@pytest.fixture
def reader() -> ImageReader:
    return ImageReader(MediaSettings(allowed_hosts=("127.0.0.1",)), DECODER)


@pytest.fixture
def decoded_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each encoded image that was really decoded."""
    sizes: list[int] = []

    def record(data: bytes, *arguments: Any) -> Image.Image:
        sizes.append(len(data))
        return really(data, *arguments)

    really = DECODER.image
    monkeypatch.setattr(DECODER, "image", record)
    return sizes


def test_all_references_to_an_image_lead_to_the_same(
    reader: ImageReader, server: Any, tmp_path: Path, encoded: Encode, decoded_sizes: list[int]
) -> None:
    data = encoded("PNG")
    text = base64.b64encode(data).decode()
    path = tmp_path / "my cat.jpg"  # the wrong extension does no harm
    path.write_bytes(data)
    server.answer("/cat.png", data)
    found = [
        reader.read_path(str(path)),
        reader.read_url(path.as_uri()),
        reader.read_url(f"data:image/png;base64,{text}"),
        reader.read_url(server.url("/cat.png")),
        reader.read_base64(text, "image/png"),
        reader.read_base64(text, None),
        reader.read_base64(f"data:image/gif;base64,{text}", None),
        reader.read(str(path)),
        reader.read(f"DATA:;base64,{text}"),
        reader.read(server.url("/cat.png")),
        reader.read(f" {server.url('/cat.png')}\n"),
        reader.read(f"\n {path}"),
    ]
    assert {shown.digest for shown in found} == {found[0].digest}
    assert all(shown is found[0] for shown in found)
    assert len(decoded_sizes) == 1
    assert found[0].n_bytes == 8 * 6 * 4


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP"])
def test_base64_alone_in_place_of_a_path_is_an_image(reader: ImageReader, format_name: str) -> None:
    file = io.BytesIO()
    Image.effect_noise((32, 24), 50).convert("RGB").save(file, format_name)
    assert reader.read(base64.b64encode(file.getvalue()).decode()).image.size == (32, 24)


@pytest.mark.parametrize("path", ["iVBORw0KGgo", "/9j/picture", "R0lGOD.gif", "UklGR" + "a/" * 60 + "b.webp"])
def test_short_path_that_begins_like_base64_is_a_path(reader: ImageReader, path: str) -> None:
    with pytest.raises((MediaNotFound, MediaUnreadable)):
        reader.read(path)


def test_digest_tells_images_apart_by_shape_and_pixels(reader: ImageReader) -> None:
    """The first three have the same bytes as pixels."""
    same = bytes(range(72))
    images = [Image.frombytes("RGB", size, same) for size in ((4, 6), (6, 4), (2, 12))]
    images.append(Image.frombytes("RGB", (4, 6), same[::-1]))
    digests = set()
    for shown in images:
        buffer = io.BytesIO()
        shown.save(buffer, "PNG")
        digests.add(reader.read_base64(base64.b64encode(buffer.getvalue()).decode(), None).digest)
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


def test_digest_tells_apart_how_an_image_was_decoded(reader: ImageReader, encoded: Encode) -> None:
    text = base64.b64encode(encoded("JPEG", size=(800, 400))).decode()
    full, reduced = reader.read_base64(text, None), reader.read_base64(text, None, longest_side=200)
    assert (full.image.size, reduced.image.size) == ((800, 400), (200, 100))
    assert full.digest != reduced.digest


def test_setting_says_how_small_a_large_jpeg_may_be_decoded(
    tmp_path: Path, encoded: Encode, decoded_sizes: list[int]
) -> None:
    (tmp_path / "large.jpg").write_bytes(encoded("JPEG", size=(800, 400)))
    (tmp_path / "large.png").write_bytes(encoded("PNG", size=(800, 400)))
    small, full = ImageReader(MediaSettings(longest_side=300), DECODER), ImageReader(MediaSettings(), DECODER)
    reduced, whole = small.read_path(str(tmp_path / "large.jpg")), full.read_path(str(tmp_path / "large.jpg"))
    assert (reduced.image.size, whole.image.size) == ((400, 200), (800, 400))
    assert reduced.digest != whole.digest
    assert small.read_path(str(tmp_path / "large.png")).image.size == (800, 400)
    assert small.read_url((tmp_path / "large.jpg").as_uri(), 100).image.size == (100, 50)


def test_changed_file_is_read_anew(reader: ImageReader, tmp_path: Path, encoded: Encode) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(encoded("PNG"))
    first = reader.read_path(str(path))
    path.write_bytes(encoded("PNG", color="blue"))
    assert reader.read_path(str(path)).digest != first.digest


def test_deleted_file_is_not_answered_from_memory(reader: ImageReader, tmp_path: Path, encoded: Encode) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(encoded("PNG"))
    reader.read_path(str(path))
    path.unlink()
    with pytest.raises(MediaNotFound):
        reader.read_path(str(path))


def test_images_used_longest_ago_are_forgotten_first(encoded: Encode, decoded_sizes: list[int]) -> None:
    reader = ImageReader(MediaSettings(), DECODER, cache_bytes=2 * 10 * 10 * 4)
    red, lime, blue = (
        base64.b64encode(encoded("BMP", size=(10, 10), color=color)).decode() for color in ("red", "lime", "blue")
    )
    for text in (red, lime, red, blue, red, lime):
        reader.read_base64(text, None)
    assert len(decoded_sizes) == 4


def test_images_are_decoded_again_once_they_are_forgotten(encoded: Encode, decoded_sizes: list[int]) -> None:
    reader = ImageReader(MediaSettings(), DECODER, cache_bytes=10 * 10 * 4)
    text = base64.b64encode(encoded("PNG", size=(10, 10))).decode()
    for _ in range(2):
        reader.read_base64(text, None)
        reader.read_base64(text, None)
        reader.forget()
    assert len(decoded_sizes) == 2


def test_image_larger_than_the_memory_is_not_kept(encoded: Encode, decoded_sizes: list[int]) -> None:
    reader = ImageReader(MediaSettings(), DECODER, cache_bytes=100)
    for _ in range(2):
        reader.read_base64(base64.b64encode(encoded("PNG", size=(10, 10))).decode(), None)
    assert len(decoded_sizes) == 2


def test_limits_of_the_settings_hold_for_every_source(server: Any, tmp_path: Path, encoded: Encode) -> None:
    reader = ImageReader(MediaSettings(max_image_bytes=1_000, allowed_hosts=("127.0.0.1",)), DECODER)
    data = encoded("BMP", size=(30, 30))
    (tmp_path / "cat.bmp").write_bytes(data)
    server.answer("/cat.bmp", data)
    text = base64.b64encode(data).decode()
    references = [str(tmp_path / "cat.bmp"), server.url("/cat.bmp"), f"data:;base64,{text}"]
    for reference in references:
        with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_BYTES"):
            reader.read(reference)
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_BYTES"):
        reader.read_base64(text, None)


def test_limit_of_pixels_holds(encoded: Encode) -> None:
    reader = ImageReader(MediaSettings(max_image_pixels=1_000), DECODER)
    with pytest.raises(MediaTooLarge, match=r"pixels.*VLLM_MAX_IMAGE_PIXELS allows"):
        reader.read_base64(base64.b64encode(encoded("PNG", size=(50, 50))).decode(), None)


def test_file_urls_stay_in_the_allowed_folders(tmp_path: Path, encoded: Encode) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "cat.png").write_bytes(encoded("PNG"))
    reader = ImageReader(MediaSettings(allowed_dirs=(str(tmp_path / "media"),)), DECODER)
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
        reader.read_url(f"file://{tmp_path}/media/%2e%2e/cat.png")


@pytest.mark.parametrize(
    "url", ["ftp://x/a.png", "gopher://x/", "blob:abc", "/tmp/a.png", "~/a.png", "cat.png", "", "://"]
)
def test_only_four_schemes_are_urls(reader: ImageReader, url: str) -> None:
    with pytest.raises(MediaForbidden, match="only http, https, data and file"):
        reader.read_url(url)


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("ftp://x/a.png", MediaForbidden),
        ("http://127.0.0.2/a.png", MediaForbidden),
        ("file://host/a.png", MediaForbidden),
        ("data:image/png,abc", MediaUnreadable),
        ("/no/such/file.png", MediaNotFound),
        ("C:\\cat.png", MediaNotFound),
        ("a:b.png", MediaNotFound),
    ],
)
def test_reference_is_a_url_when_it_begins_like_one(
    reader: ImageReader, reference: str, error: type[MediaError]
) -> None:
    with pytest.raises(error):
        reader.read(reference)


@pytest.mark.parametrize("text", ["abcd", "hello", "SGVsbG8="])
def test_word_that_happens_to_be_base64_is_no_image(reader: ImageReader, text: str) -> None:
    with pytest.raises(MediaUnreadable) as caught:
        reader.read_base64(text, "image/png")
    assert text not in str(caught.value)


def test_page_instead_of_an_image_is_unreadable(reader: ImageReader, server: Any) -> None:
    server.answer("/", b"<html>secret</html>", Content_Type="image/png")
    with pytest.raises(MediaUnreadable, match="supported are") as caught:
        reader.read_url(server.url("/"))
    assert "secret" not in str(caught.value)


def test_other_mime_type_is_an_error(reader: ImageReader, encoded: Encode) -> None:
    with pytest.raises(MediaUnreadable, match="text/html"):
        reader.read_base64(base64.b64encode(encoded("PNG")).decode(), "text/html")


def test_decoded_image_cannot_be_reassigned(reader: ImageReader, encoded: Encode) -> None:
    shown = reader.read_base64(base64.b64encode(encoded("PNG")).decode(), None)
    assert isinstance(shown, DecodedImage)
    with pytest.raises(AttributeError):
        shown.digest = "x"  # type: ignore[misc]


def test_importing_media_loads_no_heavy_library() -> None:
    modules = sorted(f"media.{path.stem}" for path in Path(image.__file__).parent.glob("[a-z]*.py"))
    heavy = {"PIL", "numpy", "httpx", "httpcore", "ssl", "av"}
    program = f"import sys, {', '.join(modules)}; print({heavy} & set(sys.modules))"
    folder = Path(image.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
