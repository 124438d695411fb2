"""What is opened, and that nothing else is."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from media.decoding.audio import decode_audio
from media.decoding.containers import Deadline, format_of, opened, start_of_stream
from media.decoding.video import check_video, read_clip
from media.errors import MediaError, MediaTooLarge, MediaUnreadable
from media.kinds import AUDIO, VIDEO
from tests.unit.media.sample_media import audio_file, video_file

MADE = [
    ("wav", "pcm_s16le", "wav"),
    ("aiff", "pcm_s16be", "aiff"),
    ("mp3", "libmp3lame", "mp3"),
    ("flac", "flac", "flac"),
    ("ogg", "libopus", "ogg"),
    ("adts", "aac", "aac"),
    ("ipod", "aac", "mov"),
    ("mov", "alac", "mov"),
    ("matroska", "pcm_s16le", "matroska"),
    ("webm", "libopus", "matroska"),
]


@pytest.mark.parametrize(("format", "codec", "name"), MADE)
def test_bytes_tell_the_format(format: str, codec: str, name: str) -> None:
    data = audio_file(format, codec, 48_000)
    assert format_of(data) == name
    assert all(format_of(data[:length]) in (name, None) for length in range(40))


@pytest.mark.parametrize("tags", [1, 3])
@pytest.mark.parametrize(("format", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("adts", "aac")])
def test_bare_streams_are_found_behind_tags_and_padding(format: str, codec: str, tags: int) -> None:
    bare = audio_file(format, codec, 48_000)
    bare = bare[start_of_stream(bare) :]
    data = (b"ID3\x04\0\0\0\0\x02\x00" + b"\xff\xd8 a cover image".ljust(256)) * tags + bytes(99) + bare
    assert start_of_stream(data) == tags * 266 + 99
    assert decode_audio(data, 120).duration_s == pytest.approx(1, abs=0.1)


def test_tag_that_claims_more_than_there_is_is_no_audio() -> None:
    assert format_of(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"x" * 99) is None
    assert format_of(b"ID3\x04\0\0\0\0\0\0" * 100_000) is None


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
OTHERS = {
    "hls": HLS,
    "ffconcat": "ffconcat version 1.0\nfile {}\n",
    "concat": "# no header\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na=control:{}\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{}</BaseURL></Period></MPD>',
    "pls": "[playlist]\nFile1={}\nLength1=1\n",
    "imf": '<?xml version="1.0"?><AssetMap><Path>{}</Path></AssetMap>',
    "lavfi": "amovie={}",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>',
    "rtsp": "RTSP/1.0 302 Moved\nLocation: {}\n",
}


@pytest.mark.parametrize("read", [lambda data: decode_audio(data, 9), lambda data: read_clip(data, 9), check_video])
@pytest.mark.parametrize("kind", OTHERS)
def test_lists_and_scripts_are_refused_and_what_they_name_is_not_opened(
    kind: str, read: Callable[[bytes], Any], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_by_av: list[Any] = []
    monkeypatch.setattr(av, "open", lambda *arguments, **options: opened_by_av.append(arguments))
    for target in ("/etc/passwd", "file:///etc/passwd", server.url("/a.ts"), "concat:/etc/passwd|/etc/hosts"):
        with pytest.raises(MediaUnreadable, match="supported are WAV") as caught:
            read(OTHERS[kind].format(target).encode())
        assert target not in str(caught.value)
    assert server.seen == []
    assert opened_by_av == []


def test_ffmpeg_gets_no_name_and_no_way_to_open_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    data = audio_file()
    real_open = av.open
    seen: list[tuple[Any, dict[str, Any]]] = []

    def record(file: Any, *arguments: Any, **options: Any) -> Any:
        seen.append((file, options))
        return real_open(file, *arguments, **options)

    monkeypatch.setattr(av, "open", record)
    decode_audio(data, 9)
    ((file, options),) = seen
    assert not isinstance(file, str | Path)
    assert not hasattr(file, "name")
    assert options["format"] == options["options"]["format_whitelist"] == "wav"
    assert options["options"]["protocol_whitelist"] == "none"
    with pytest.raises(PermissionError):
        options["io_open"]("/etc/passwd", 1, {})


def test_playlist_is_not_followed_even_where_it_is_taken_for_something_else(server: Any) -> None:
    """Behind the mark of another format, and inside of one."""
    playlist = HLS.format(server.url("/a.ts")).encode()
    for head in (b"\xff\xfb\x90\x44", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"\0\0\0\x08free", b"RIFF\xff\0\0\0WAVE"):
        with pytest.raises(MediaUnreadable):
            decode_audio(head + playlist, 9)
    assert server.seen == []


def test_index_that_zlib_would_blow_up_is_refused() -> None:
    data = video_file()
    moov = data.index(b"moov")
    bomb = data[: moov + 4] + b"\0\0\0\x40cmov\0\0\0\x0cdcomzlib\0\0\0\x2ccmvd\xff\xff\xff\xff" + data[moov + 4 :]
    for read in (lambda data: read_clip(data, 1 << 20), check_video, lambda data: decode_audio(data, 9)):
        with pytest.raises(MediaUnreadable, match="rare format"):
            read(bomb)


def test_tags_in_any_encoding_do_no_harm() -> None:
    data = audio_file("wav", tags={"title": "Mxxxx", "artist": "y"}).replace(b"Mxxxx", b"M\xfc\xdf\x00\xff")
    assert decode_audio(data, 9).duration_s == 1


def test_codec_that_is_not_listed_is_not_run() -> None:
    with pytest.raises(MediaUnreadable, match=r"codec is not supported; MP3, AAC, FLAC"):
        decode_audio(audio_file("matroska", "wavpack", 44_100), 9)
    with pytest.raises(MediaUnreadable, match=r"codec is not supported; H\.264"):
        read_clip(video_file("matroska", "ffv1"), 1 << 20)


def test_time_is_bounded() -> None:
    deadline = Deadline(0.000_1, AUDIO.noun)
    time.sleep(0.001)
    with (
        pytest.raises(MediaTooLarge, match=r"The audio takes more than 0\.0001 s to decode"),
        opened(audio_file(), AUDIO, deadline),
    ):
        deadline.check()
    with pytest.raises(MediaTooLarge, match="The video takes more than 0 s"):
        check_video(video_file(), timeout_s=0)


def test_too_many_streams_are_refused() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        for _ in range(40):
            out.add_stream("pcm_s16le", rate=8_000)
        out.start_encoding()
    with pytest.raises(MediaUnreadable):
        decode_audio(buffer.getvalue(), 9)


@pytest.mark.parametrize("kind", [AUDIO, VIDEO])
def test_errors_say_nothing_of_ffmpeg(kind: Any) -> None:
    messages = []
    for data in (
        audio_file("ogg", "libopus", 48_000)[:60],
        video_file()[:500],
        b"OggS" + b"/etc/passwd" * 40,
        b"fLaC",
        b"x",
    ):
        with pytest.raises(MediaError) as caught:
            decode_audio(data, 9) if kind is AUDIO else read_clip(data, 1 << 20)
        messages.append(str(caught.value))
    assert all(message.endswith(".") and kind.noun in message for message in messages)
    assert not any(re.search(r"0x|Errno|avcodec|none>|passwd|[Ii]nvalid", message) for message in messages)
