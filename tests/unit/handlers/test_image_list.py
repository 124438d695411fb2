"""`list_images`: what was saved, page by page, from the files alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from handlers.media_generation import image_list
from handlers.media_generation.image_list import ImageList
from omni.files.metadata import with_png_text
from tests.scripted_omni import ScriptedOmni, png
from tests.unit.handlers.image_calls import SMALL, Json
from tests.unit.handlers.media_answers import facts
from tests.unit.handlers.tool_client import Client, make_image


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def lister(make_client: Callable[..., Client], out: Path) -> Client:
    """A client that has made nothing itself."""
    return make_client(OMNI_OUTPUT_DIR=str(out))


def written(out: Path, name: str, prompt: str = "a", at_s: float = 0.0, **fields: object) -> str:
    """An image as the tools save it; its path."""
    made = {"model": "m", "prompt": prompt, "width": 64, "height": 48, "steps": 4, "guidance_scale": 1.0, "seed": 7}
    path = out / name
    path.write_bytes(with_png_text(png(), {"parameters": msgspec.json.encode({**made, **fields}).decode()}))
    os.utime(path, (at_s, at_s))
    return str(path)


def pages(client: Client, arguments: Json) -> list[list[str]]:
    """The names on all pages."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page: ImageList = client.result("list_images", {**arguments, **({"cursor": cursor} if cursor else {})})
        found.append([os.path.basename(image.file_path) for image in page.images])
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_images_of_an_earlier_run_are_listed_newest_first(
    make_client: Callable[..., Client], omni: ScriptedOmni, out: Path
) -> None:
    earlier = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(out))
    told = [facts(earlier, "generate_image", {"prompt": f"image {n}", "seed": n, **SMALL}) for n in range(3)]
    for at_s, each in enumerate(told):
        os.utime(each["file_path"], (at_s, at_s))
    earlier.services.close()
    omni.seen.clear()
    page: ImageList = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(out)).result("list_images")
    assert [image.file_path for image in page.images] == [each["file_path"] for each in reversed(told)]
    assert page.next_cursor is None
    assert msgspec.to_builtins(page.images[0]) == {
        "file_path": told[2]["file_path"],
        "prompt": "image 2",
        "seed": 2,
        "model": "black-forest-labs/FLUX.2-klein-4B",
        "resolution": "64x64",
        "modified": "1970-01-01T00:00:02Z",
        "file_bytes": os.path.getsize(told[2]["file_path"]),
    }
    assert omni.seen == []


def test_nothing_saved_is_an_empty_list(client: Client) -> None:
    assert client.result("list_images") == ImageList([], None)


def test_pages_end_with_null(lister: Client, out: Path) -> None:
    for number in range(7):
        written(out, f"{number}.png", at_s=number)
    assert pages(lister, {"limit": 3}) == [["6.png", "5.png", "4.png"], ["3.png", "2.png", "1.png"], ["0.png"]]
    assert pages(lister, {"limit": 7}) == [[f"{number}.png" for number in range(6, -1, -1)]]


def test_files_of_others_are_skipped_and_damaged_ones_have_nulls(lister: Client, out: Path) -> None:
    (out / "foreign.png").write_bytes(make_image("red"))
    (out / "bare.png").write_bytes(with_png_text(png(), {}))
    os.utime(out / "bare.png", (1, 1))
    written(out, "good.png", at_s=2)
    page: ImageList = lister.result("list_images")
    assert [image.prompt for image in page.images] == ["a", None]
    bare = page.images[1]
    assert (bare.seed, bare.model, bare.resolution, bare.modified) == (None, None, None, "1970-01-01T00:00:01Z")


def test_query_finds_prompts_in_any_case(lister: Client, out: Path) -> None:
    for number, prompt in enumerate(("A red FOX", "a blue bird", "the fox again", "Größe")):
        written(out, f"{number}.png", prompt, at_s=number)
    (out / "bare.png").write_bytes(with_png_text(png(), {}))
    os.utime(out / "bare.png", (-1, -1))
    assert pages(lister, {"query": "fox", "limit": 1}) == [["2.png"], ["0.png"], []]
    assert pages(lister, {"query": "GRÖSSE"}) == [["3.png"]]
    assert pages(lister, {"query": "cat"}) == [[]]


def test_search_through_many_files_goes_on_with_the_next_page(
    lister: Client, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_list, "MAX_READ_FILES", 4)
    for number in range(10):
        written(out, f"{number}.png", "wanted" if number == 1 else "other", at_s=number)
    assert pages(lister, {"query": "wanted"}) == [[], [], ["1.png"]]
    for number in range(2, 10):
        (out / f"{number}.png").write_bytes(make_image("red"))
        os.utime(out / f"{number}.png", (number, number))
    assert pages(lister, {}) == [[], [], ["1.png", "0.png"]]


def test_long_texts_are_shortened(lister: Client, out: Path) -> None:
    written(out, "a.png", "é" * 20_000, model="m" * 5_000)
    (image,) = lister.result("list_images").images
    assert image.prompt == "é" * 199 + "…"
    assert len(image.model) == 200


def test_page_fits_the_longest_result_and_nothing_is_lost(make_client: Callable[..., Client], out: Path) -> None:
    lister = make_client(OMNI_OUTPUT_DIR=str(out), VLLM_MAX_RESULT_BYTES="10000")
    for number in range(30):
        written(out, f"{number:02}.png", "☂" * 20_000, at_s=number)
    result = lister.run("list_images", {"limit": 100})
    assert len(msgspec.json.encode(result)) < 10_000
    found = pages(lister, {"limit": 100})
    assert len(found) > 5
    assert [name for page in found for name in page] == [f"{number:02}.png" for number in range(29, -1, -1)]


@pytest.mark.parametrize("at_s", [-(10**9), 2**33, 10**10])
def test_files_of_any_time_are_listed(lister: Client, out: Path, at_s: float) -> None:
    written(out, "a.png", at_s=at_s)
    (image,) = lister.result("list_images").images
    assert image.modified.endswith("Z")


@pytest.mark.parametrize("seconds", [-1e30, 1e30])
def test_times_that_no_clock_shows_are_shown_as_the_nearest_one(seconds: float) -> None:
    from omni.images.written_images import WrittenImage

    entry = image_list._entry(WrittenImage("/a.png", seconds, 1, None))
    assert entry.modified == ("1970-01-01T00:00:00Z" if seconds < 0 else "9999-12-31T23:59:59Z")


def test_folder_whose_name_is_not_utf8_is_told_as_a_url(make_client: Callable[..., Client], tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    folder.mkdir()
    written(folder, "a.png")
    (image,) = make_client(OMNI_OUTPUT_DIR=str(folder)).result("list_images").images
    assert image.file_path == f"file://{tmp_path}/%E9/a.png"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit": 0}, "arguments.limit: expected int >= 1"),
        ({"limit": 101}, "arguments.limit: expected int <= 100"),
        ({"cursor": ""}, "arguments.cursor: expected str of length >= 1"),
        ({"cursor": "20"}, "cursor: use the next_cursor of an earlier result"),
        ({"query": "x" * 1_001}, "arguments.query: expected str of length <= 1000"),
        ({"offset": 1}, "arguments.offset: there is no such argument"),
    ],
)
def test_wrong_arguments_are_refused(lister: Client, arguments: Json, words: str) -> None:
    assert lister.error("list_images", arguments).startswith(words)
