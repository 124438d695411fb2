"""Audio and videos in sessions: what is dropped for them, and what the session file keeps."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from engine.errors import SessionError, StoreDamaged
from engine.interface import TextPart
from engine.parts import Media
from engine.sessions.codec import MediaRecord, decode_media, decode_messages, encode_media, encode_messages
from engine.sessions.store import SessionStore
from settings import SessionSettings
from tests.unit.engine.session_samples import make_audio, make_image, make_video, message, say, stored

SOUND, CLIP, PICTURE = make_audio(0.25), make_video(1, 2, 3), make_image(9)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sessions.db")


def store_of(max_session_bytes: int = 1 << 20) -> SessionStore:
    return SessionStore(SessionSettings(max_session_bytes=max_session_bytes))


def contents(store: SessionStore, session_id: str = "s") -> list[list[str]]:
    """The kinds of the parts of each message by the user."""
    messages = [each for each in store.get(session_id).messages if each.role == "user"]
    return [["text" if isinstance(part, TextPart) else part.kind for part in each.content] for each in messages]


def test_sizes_are_those_in_memory() -> None:
    assert (SOUND.n_bytes, SOUND.duration_s) == (16, 4 / 16_000)
    assert CLIP.n_bytes == 3 * 2 * 2 * 3
    store = store_of()
    say(store, "s", "ab", SOUND, CLIP, PICTURE, SOUND)
    (row,) = store.list()
    assert (row.n_images, row.image_bytes) == (1, 16 + 36 + 12 + 16)
    assert store.get("s").n_bytes == 16 + 36 + 12 + len("ab") + len("ok")


@pytest.mark.parametrize("part", [SOUND, CLIP], ids=["audio", "video"])
def test_each_kind_has_its_own_limit_and_the_oldest_turn_of_that_kind_gives_way(part: Media) -> None:
    store = store_of()
    say(store, "s", "first", PICTURE, max_images=2)
    assert [say(store, "s", f"{number}", part, max_images=2) for number in range(3)] == [0, 0, 2]
    assert contents(store) == [["text", "image"], ["text", part.kind], ["text", part.kind]]


@pytest.mark.parametrize(
    ("part", "words"), [(SOUND, "3 audio parts; the maximum in a prompt is 2"), (CLIP, "3 videos; the maximum")]
)
def test_too_many_at_once_are_refused(part: Media, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        say(store_of(), "s", part, part, part, max_images=2)


def test_bytes_of_all_kinds_count_together() -> None:
    store = store_of(max_session_bytes=60)
    say(store, "s", SOUND)
    say(store, "s", CLIP)
    assert say(store, "s", PICTURE) == 2
    assert contents(store) == [["video"], ["image"]]
    with pytest.raises(SessionError, match="audio parts and videos have 76 bytes when decoded"):
        say(store, "s", make_audio(0.5, 10), CLIP)


def test_repeated_parts_share_one_object() -> None:
    store = store_of()
    say(store, "s", SOUND, CLIP)
    say(store, "s", make_audio(0.25), make_video(1, 2, 3))
    first, second = store.get("s").turns
    assert all(one is other for one, other in zip(first.media, second.media, strict=True))


def test_session_goes_on_with_them_after_a_restart(path: str) -> None:
    store = stored(path)
    say(store, "s", "a", SOUND, "b", CLIP, PICTURE)
    say(store, "s", "c", SOUND)
    before = store.get("s")
    store.close()
    again = stored(path)
    after = again.get("s")
    assert [each.content for each in after.messages] == [each.content for each in before.messages]
    (row,) = again.list()
    assert (row.n_images, row.image_bytes) == (1, 16 + 36 + 12 + 16)
    plan = again.plan("s", [message("user", "d")], 4, fork=True)
    again.commit(plan, message("assistant", "ok"))
    assert again.get(plan.session_id).media == before.media


def test_they_are_deleted_with_the_last_turn_that_has_them(path: str) -> None:
    store = stored(path)
    say(store, "s", SOUND, CLIP)
    say(store, "t", SOUND)
    store.delete("s")
    with sqlite3.connect(path) as file:
        assert [row[0] for row in file.execute("SELECT digest FROM pictures")] == [SOUND.digest]
    file.close()
    store.delete("t")
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM pictures").fetchone() == (0,)
    file.close()


def test_file_has_the_form_of_earlier_servers_which_read_a_text(path: str) -> None:
    """A server that knows only images takes the member `text` of a part, and `image` of all others."""
    record = json.loads(encode_messages((message("user", "a", make_audio(0, 32_000), CLIP, PICTURE),)))
    assert record[0]["content"] == [
        {"text": "a"},
        {"text": "[audio of 2.0 s]", "audio": make_audio(0, 32_000).digest},
        {"text": "[video of 3.0 s]", "video": CLIP.digest},
        {"image": PICTURE.digest},
    ]


def test_messages_lose_nothing() -> None:
    parts: dict[str, Media] = {part.digest: part for part in (SOUND, CLIP, PICTURE)}
    messages = (message("user", SOUND, "[audio of 2.0 s]", CLIP, PICTURE),)
    assert decode_messages(encode_messages(messages), parts.__getitem__) == messages


@pytest.mark.parametrize("part", [SOUND, CLIP, make_video(7), make_video(*range(128))])
def test_parts_lose_nothing(part: Media) -> None:
    assert decode_media(encode_media(part), part.digest) == part


def test_video_keeps_what_is_not_known() -> None:
    one = make_video(5)
    single = type(one)(one.frames, (0.0,), 0.0, None, "video-x")
    assert decode_media(encode_media(single), "video-x") == single


@pytest.mark.parametrize(
    "record",
    [
        MediaRecord("audio", 4, 1, b"junk"),
        MediaRecord("video", 2, 6, b"junk"),
        MediaRecord("video", 2, 6, b'{"mode":"RGB","times_s":[],"duration_s":1,"fps":1}\nx'),
        MediaRecord("video", 2, 6, b'{"mode":"RGB","times_s":[1],"duration_s":1,"fps":1}\nx'),
        MediaRecord("video", 2, 6, b"[]\nx"),
    ],
)
def test_damaged_records_are_recognised(record: MediaRecord) -> None:
    with pytest.raises(StoreDamaged):
        decode_media(record, "d")
