"""The view of MCP Apps: its page, its resource, which tools have it, and the tools that only it calls."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from handlers.apps.media import MAX_PATHS, PART_BYTES
from handlers.apps.tools import APP_TOOLS
from handlers.resources.media_view import MEDIA_VIEW, PAGE_FILE
from handlers.resources.resources import resource_registry
from handlers.tool_table import TOOLS
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.tools.toolbox import Tool
from omni.files.audio_marks import with_audio_text
from omni.files.metadata import with_mp4_text, with_png_text
from settings.tool_selection import APP_TOOLS as APP_NAMES
from tests.scripted_omni import ScriptedOmni
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.resource_calls import read, refused, uris
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.media.sample_media import audio_file, video_file

Json = dict[str, Any]
PAGE = Path(PAGE_FILE).read_text("utf-8")
MIME = "text/html;profile=mcp-app"
MAX_PAGE_BYTES = 64_000
VIEWED = {
    "analyze_images_with_query", "generate_image", "batch_generate", "list_images", "generate_video", "generate_speech",
    "process_image_to_video", "process_video_to_video",
}  # fmt: skip


def entries(client: Client, *, with_app_tools: bool = False) -> dict[str, Json]:
    """The entries of `tools/list` by name."""
    listed: list[Json] = msgspec.json.decode(msgspec.json.encode(client.toolbox.listing(with_app_tools=with_app_tools)))
    return {entry["name"]: entry for entry in listed}


# The page


def test_page_is_a_whole_small_document_that_loads_nothing() -> None:
    assert PAGE.startswith("<!doctype html>\n<html lang=")
    assert PAGE.endswith("</html>\n")
    assert len(PAGE.encode()) <= MAX_PAGE_BYTES
    assert not re.search(r"https?:|<link|<script [^>]*src|@import|url\(|createObjectURL", PAGE)


def test_page_makes_no_markup_of_what_a_result_says_and_keeps_to_what_sandboxes_allow() -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|<form|localStorage|fetch\("
    )
    assert not re.search(forbidden, PAGE)


def test_every_id_of_the_script_is_in_the_page() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', PAGE))
    assert set(re.findall(r'\$\("([\w-]+)"\)', PAGE)) <= ids
    assert len(ids) == len(re.findall(r'\bid="', PAGE))


def test_uri_has_the_hash_of_the_page() -> None:
    digest = hashlib.sha256(PAGE.encode()).hexdigest()
    assert MEDIA_VIEW.partition("media-")[2] == f"{digest[:8]}.html"


def test_page_is_a_resource_that_declares_no_network(shown: ResourceRegistry) -> None:
    (entry,) = [row for row in shown.resources({})["resources"] if row.uri == MEDIA_VIEW]
    contents = read(shown, MEDIA_VIEW)
    listed = msgspec.to_builtins(entry)
    assert listed["_meta"] == contents["_meta"]
    assert contents["_meta"]["ui"] == {"csp": {}, "permissions": {"clipboardWrite": {}}, "prefersBorder": True}
    assert (listed["mimeType"], contents["mimeType"]) == (MIME, MIME)
    assert contents["text"] == PAGE
    assert listed["size"] == len(PAGE.encode())


def test_earlier_versions_of_the_uri_get_the_current_page(shown: ResourceRegistry) -> None:
    assert read(shown, "ui://vllm/media-00000000.html")["text"] == PAGE
    for uri in ("ui://vllm/", "ui://vllm/media-", "ui://vllm/other.html", "ui://other/media-1.html", "ui:"):
        assert refused(shown, uri).code == -32602


# The list of tools


def test_tools_that_show_media_have_the_view_under_both_keys(client: Client) -> None:
    with_view = {name: entry["_meta"] for name, entry in entries(client).items() if "_meta" in entry}
    assert set(with_view) == VIEWED
    assert all(meta == {"ui": {"resourceUri": MEDIA_VIEW}, "ui/resourceUri": MEDIA_VIEW} for meta in with_view.values())


def test_tools_of_the_view_are_listed_only_for_clients_with_apps_and_hidden_from_the_model(client: Client) -> None:
    assert not set(APP_NAMES) & set(entries(client))
    listed = entries(client, with_app_tools=True)
    assert [*listed][-2:] == list(APP_NAMES) == [tool.name for tool in APP_TOOLS]
    assert all(listed[name]["_meta"] == {"ui": {"visibility": ["app"]}} for name in APP_NAMES)
    assert all(client.toolbox.find(name) is not None for name in APP_NAMES)


def test_setting_removes_all_of_it(client: Client, make_client: Callable[..., Client]) -> None:
    off = make_client(VLLM_APPS="off")
    without_view = {name: {k: v for k, v in entry.items() if k != "_meta"} for name, entry in entries(client).items()}
    assert entries(off, with_app_tools=True) == without_view
    shown = resource_registry(off.services)
    assert MEDIA_VIEW not in uris(shown)
    assert refused(shown, MEDIA_VIEW).code == -32602
    for name in APP_NAMES:
        assert off.toolbox.find(name) is None
        assert off.toolbox.why_unknown(name).startswith(f"Unknown tool: the settings of this server leave {name} out")


def test_without_a_tool_that_has_the_view_its_tools_are_not_offered(make_client: Callable[..., Client]) -> None:
    chat = make_client(VLLM_TOOLSETS="chat")
    assert not set(APP_NAMES) & set(entries(chat, with_app_tools=True))
    assert chat.toolbox.find("view_media") is None
    slim = make_client(VLLM_TOOLSETS="slim")
    assert set(APP_NAMES) <= set(entries(slim, with_app_tools=True))
    assert slim.toolbox.find("view_media") is not None


def test_remote_model_changes_an_entry_and_keeps_its_view(make_client: Callable[..., Client]) -> None:
    for apps in ("1", "0"):
        remote = make_client(VLLM_BASE_URL="http://127.0.0.1:9/v1", VLLM_APPS=apps)
        entry = entries(remote)["analyze_images_with_query"]
        assert entry["annotations"]["readOnlyHint"] is False
        assert ("_meta" in entry) is (apps == "1")


@pytest.mark.parametrize("tool", APP_TOOLS, ids=lambda tool: str(tool.name))
def test_tools_of_the_view_change_nothing_and_wait_for_nothing(tool: Tool) -> None:
    assert tool.annotations.read_only
    assert tool.annotations.idempotent
    assert tool.bypass_queue
    assert tool.app_only
    assert tool not in TOOLS


def test_results_are_the_same_with_and_without_apps(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    """But for times and ids: byte for byte, in the order of all members."""

    def told(apps: str) -> list[str]:
        out = tmp_path / apps
        client = make_client(VLLM_APPS=apps, OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(out))
        calls: list[tuple[str, Json]] = [
            ("generate_image", {"prompt": "a circle", "seed": 5, "filename": "one.png"}),
            ("batch_generate", {"prompts": ["a", "b"], "seeds": [1, 2]}),
            ("analyze_images_with_query", {"image_paths": [str(tmp_path / "red.png")], "query": "red?"}),
        ]
        texts = [msgspec.json.encode(client.run(name, arguments)).decode() for name, arguments in calls]
        changing = rf"{re.escape(str(out))}|(image|batch)_[0-9a-f]{{16}}|img_[\w-]+\.png"
        times = r'((?:_s|_seconds|_ms|per_second|size)\\?":)[\d.e-]+'
        return [re.sub(times, r"\1…", re.sub(changing, "…", text)) for text in texts]

    (tmp_path / "red.png").write_bytes(make_image("red"))
    with_apps = told("1")
    assert with_apps == told("0")
    assert not any("_meta" in text or "ui://" in text for text in with_apps)


# Files for the view


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def viewer(make_client: Callable[..., Client], out: Path) -> Client:
    """A client whose output folder has files."""
    return make_client(OMNI_OUTPUT_DIR=str(out))


def noise(side: int) -> bytes:
    """A PNG file that cannot be compressed."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(buffer, "PNG")
    return buffer.getvalue()


SOUNDS = {".wav": ("pcm_s16le", "audio/wav"), ".mp3": ("libmp3lame", "audio/mpeg"), ".flac": ("flac", "audio/flac")}


def written(out: Path, name: str = "a.png", data: bytes | None = None) -> Path:
    """A file as the tools write it."""
    path = out / name
    data = make_image("red") if data is None else data
    if path.suffix in SOUNDS:
        path.write_bytes(with_audio_text(data, "{}"))
    else:
        path.write_bytes(with_mp4_text(data, "{}") if path.suffix == ".mp4" else with_png_text(data, {}))
    return path


def sound(ending: str) -> bytes:
    """A short file of a format."""
    return audio_file(ending[1:], SOUNDS[ending][0], 24_000, seconds=0.5)


def viewed(client: Client, **arguments: Any) -> tuple[list[Json], list[Image.Image]]:
    """The entries and images of a call of `view_media`."""
    first, *images = blocks(client, "view_media", arguments)
    assert all((block["type"], block["mimeType"]) == ("image", "image/jpeg") for block in images)
    return json.loads(first["text"])["results"], [Image.open(io.BytesIO(base64.b64decode(b["data"]))) for b in images]


def test_generated_files_and_readable_images_are_seen_small_and_in_order(viewer: Client, out: Path) -> None:
    large, clip = written(out, "large.png", noise(600)), written(out, "clip.mp4", video_file(size=(96, 64)))
    other = out.parent / "other.png"
    other.write_bytes(make_image("blue"))
    paths = [str(large), "/nowhere.png", str(clip), clip.as_uri(), str(other)]
    found, images = viewed(viewer, paths=paths, max_side=128)
    assert [entry["path"] for entry in found] == paths
    assert ["error" in entry for entry in found] == [False, True, False, False, False]
    assert [image.size for image in images] == [(128, 128), (96, 64), (96, 64), (8, 6)]


def test_small_images_follow_the_rules_of_media(make_client: Callable[..., Client], out: Path) -> None:
    allowed = out.parent / "allowed"
    allowed.mkdir()
    viewer = make_client(OMNI_OUTPUT_DIR=str(out), VLLM_ALLOWED_MEDIA_DIRS=str(allowed))
    (allowed / "in.png").write_bytes(make_image("red"))
    (out.parent / "out.png").write_bytes(make_image("red"))
    (allowed / "link.png").symlink_to(out.parent / "out.png")
    (allowed / "clip.mp4").write_bytes(video_file())
    data_url = "data:image/png;base64," + base64.b64encode(make_image("red")).decode()
    no = [
        *("http://127.0.0.1:9/a.png", "https://example.com/a.png", data_url, "file://host/a.png", "\0", "-i", " "),
        *("/etc/passwd", "/dev/zero", "/proc/self/environ", "../up.png", "x" * 5_000),
        *map(str, (out.parent / "out.png", allowed / "link.png", allowed / "clip.mp4", allowed)),
    ]
    found, images = viewed(viewer, paths=[str(allowed / "in.png"), str(written(out)), *no])
    assert len(images) == 2
    assert all("error" in entry for entry in found[2:])
    outside = [
        entry["error"].replace(entry["path"], "…")
        for entry in viewed(viewer, paths=[str(out.parent / "out.png"), str(out.parent / "none.png")])[0]
    ]
    assert outside[0] == outside[1], "it does not tell whether a file exists"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"paths": []}, "arguments.paths: expected array of length >= 1"),
        ({"paths": ["/a.png"] * (MAX_PATHS + 1)}, "arguments.paths: expected array of length <= 64"),
        ({"paths": [""]}, "arguments.paths[0]: expected str of length >= 1"),
        ({"paths": ["/a.png"], "max_side": 31}, "arguments.max_side: expected int >= 32"),
        ({"paths": ["/a.png"], "max_side": 2_049}, "arguments.max_side: expected int <= 2048"),
        ({}, "arguments: object missing required field paths"),
    ],
)
def test_wrong_arguments_of_view_media_are_refused(viewer: Client, arguments: Json, words: str) -> None:
    assert viewer.error("view_media", arguments).startswith(words)


def test_small_images_together_fit_the_longest_result(make_client: Callable[..., Client], out: Path) -> None:
    viewer = make_client(OMNI_OUTPUT_DIR=str(out), VLLM_MAX_RESULT_BYTES="50000")
    path = str(written(out, data=noise(600)))
    for n_paths in (1, 3, MAX_PATHS):
        call = viewer.run("view_media", {"paths": [path] * n_paths, "max_side": 2_048})
        assert len(msgspec.json.encode(call)) < 50_000
        errors = [entry for entry in json.loads(call["content"][0]["text"])["results"] if "error" in entry]
        assert len(call["content"]) == 1 + n_paths - len(errors)
        assert (errors != []) is (n_paths == MAX_PATHS)


def test_one_call_holds_a_limited_number_of_pixels(viewer: Client, out: Path) -> None:
    path = str(written(out, data=noise(600)))
    _, images = viewed(viewer, paths=[path] * MAX_PATHS, max_side=2_048)
    assert all(image.width <= 512 for image in images)


def test_parts_of_a_file_join_to_the_whole(viewer: Client, out: Path) -> None:
    path = written(out, data=noise(600))
    texts, offset = [], 0
    while offset < path.stat().st_size:
        part = facts(viewer, "read_media", {"path": str(path), "offset": offset})
        assert {k: part[k] for k in ("path", "mime_type", "total_bytes", "offset")} == {
            "path": str(path), "mime_type": "image/png", "total_bytes": path.stat().st_size, "offset": offset,
        }  # fmt: skip
        texts.append(part["data"])
        offset += part["n_bytes"]
    assert len(texts) == 3
    assert base64.b64decode("".join(texts)) == path.read_bytes()
    assert len(texts[0]) == PART_BYTES * 4 // 3


def test_parts_fit_the_longest_result(make_client: Callable[..., Client], out: Path) -> None:
    viewer = make_client(OMNI_OUTPUT_DIR=str(out), VLLM_MAX_RESULT_BYTES="10000")
    path = written(out, data=noise(100))
    result = viewer.run("read_media", {"path": str(path)})
    assert 5_000 < len(msgspec.json.encode(result)) < 10_000
    assert json.loads(result["content"][0]["text"])["n_bytes"] % 3 == 0


def test_video_is_read_by_its_path_or_url(viewer: Client, out: Path) -> None:
    path = written(out, "a b.mp4", video_file())
    for reference in (str(path), path.as_uri()):
        part = facts(viewer, "read_media", {"path": reference})
        assert part["mime_type"] == "video/mp4"
        assert base64.b64decode(part["data"]) == path.read_bytes()


@pytest.mark.parametrize("ending", SOUNDS)
def test_sound_is_read_with_its_type_and_has_no_small_image(viewer: Client, out: Path, ending: str) -> None:
    path = written(out, f"voice{ending}", sound(ending))
    part = facts(viewer, "read_media", {"path": str(path)})
    assert part["mime_type"] == SOUNDS[ending][1]
    assert base64.b64decode(part["data"]) == path.read_bytes()
    found, images = viewed(viewer, paths=[str(path)])
    assert images == []
    assert found[0]["error"].endswith("is audio; there is no image in it.")


@pytest.mark.parametrize("ending", SOUNDS)
def test_sound_of_others_is_not_read(viewer: Client, out: Path, ending: str) -> None:
    (out / f"other{ending}").write_bytes(sound(ending))
    path = str(out / f"other{ending}")
    assert viewer.error("read_media", {"path": path}).endswith("is none that this server generated.")
    assert "error" in viewed(viewer, paths=[path])[0][0]


@pytest.mark.parametrize(
    "name", ["other.png", "notes.txt", ".hidden.png", "link.png", "folder.png", "../outside.png", "../none.png"]
)
def test_only_files_that_the_server_wrote_are_read(viewer: Client, out: Path, name: str) -> None:
    written(out.parent, "outside.png")
    written(out, ".hidden.png")
    written(out, "notes.txt")
    (out / "other.png").write_bytes(make_image("red"))
    (out / "link.png").symlink_to(out.parent / "outside.png")
    (out / "folder.png").mkdir()
    text = viewer.error("read_media", {"path": str(out / name)})
    assert text.endswith(("is none that this server generated.", "is a folder, not a file."))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/dev/zero", "\0", "relative.png", "http://127.0.0.1/a.png", "file://host/a.png", "~", "x" * 9_000],
)
def test_hostile_paths_are_refused_in_one_sentence(viewer: Client, path: str) -> None:
    text = viewer.error("read_media", {"path": path})
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (-1, "arguments.offset: expected int >= 0"),
        (2**50 + 1, "arguments.offset: expected int <= 1125899906842624"),
        (2**70, "arguments.offset: "),
        (2**50, "arguments.offset: the file has "),
        ("x", "arguments.offset: expected int, got str"),
        (1.5, "arguments.offset: expected int"),
    ],
)
def test_wrong_offsets_are_refused(viewer: Client, out: Path, offset: Any, words: str) -> None:
    assert viewer.error("read_media", {"path": str(written(out)), "offset": offset}).startswith(words)


def test_missing_file_of_the_output_folder_is_named(viewer: Client, out: Path) -> None:
    assert viewer.error("read_media", {"path": str(out / "gone.png")}).startswith(f'There is no file "{out}/gone.png"')
