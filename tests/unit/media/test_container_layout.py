"""Files whose sizes lie are put right or refused before FFmpeg sees them."""

from __future__ import annotations

import struct
import time

import pytest

from media.decoding.container_layout import bare_wav, is_one_format, is_well_formed_mp4, missing_share
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, tone, video_file

SOUND = pcm(tone(16_000, 0.1))
PLAIN = raw_wav(SOUND)


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


FORMAT = PLAIN[12:36]


def wav(*chunks: bytes, riff_size: int = 99, kind: bytes = b"RIFF") -> bytes:
    return kind + struct.pack("<I", riff_size) + b"WAVE" + b"".join(chunks)


def test_plain_wav_stays_as_it_is() -> None:
    assert bare_wav(PLAIN) == PLAIN


@pytest.mark.parametrize(
    "others",
    [
        [chunk(b"LIST", b"INFOISFT\x0e\0\0\0" + b"x" * 14)],
        [chunk(b"LIST", b"odd"), chunk(b"cue ", b"\0" * 28)],
        [chunk(b"id3 ", b"ID3\x04\0\0\0\x7f\x7f\x7f"), chunk(b"bext", b"\0" * 602)],
        [chunk(b"JUNK", b"\0" * 28)],
    ],
)
def test_only_the_audio_is_kept(others: list[bytes]) -> None:
    for data in (
        wav(*others, FORMAT, chunk(b"data", SOUND)),
        wav(FORMAT, *others, chunk(b"data", SOUND)),
        wav(FORMAT, chunk(b"data", SOUND), *others),
    ):
        assert bare_wav(data) == PLAIN
        assert missing_share(data) == 0


def test_tag_larger_than_the_file_is_removed() -> None:
    """FFmpeg would take the 2 GB that the tag inside claims."""
    bomb = wav(FORMAT, chunk(b"LIST", b"INFOISFT\xf0\xff\xff\x7e", size=0x7FFF_FFF0), chunk(b"data", SOUND))
    assert bare_wav(bomb) == raw_wav(b"")


def test_more_chunks_than_any_program_writes_are_not_walked() -> None:
    assert bare_wav(wav(chunk(b"JUNK", b"") * 100_000, FORMAT, chunk(b"data", SOUND))) == wav(
        chunk(b"data", b""), riff_size=12
    )


def test_sizes_above_four_gib_are_in_a_chunk_of_their_own() -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(SOUND), 1_600, 0))
    data = wav(sizes, FORMAT, chunk(b"data", SOUND, size=2**32 - 1), riff_size=2**32 - 1, kind=b"RF64")
    assert bare_wav(data) == PLAIN
    assert missing_share(data) == 0
    assert missing_share(data[: -len(SOUND) // 2]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("riff_size", "data_size"), [(0, 0), (2**32 - 1, 2**32 - 1), (0x7FFF_F024, 0x7FFF_F000)])
def test_wav_of_unknown_length_reaches_to_the_end(riff_size: int, data_size: int) -> None:
    data = raw_wav(SOUND, riff_size=riff_size, data_size=data_size)
    assert bare_wav(data) == PLAIN
    assert missing_share(data) == 0


@pytest.mark.parametrize(
    "size",
    [
        *(2_000_000_000, 1_000_000_000, 500_000_000, 1_234_567_891, 123_456_789),
        *(1 << 31, (1 << 31) - 1, 1 << 30, (1 << 30) - 44, 1 << 27, (1 << 27) - 36, 0x7FFF_FFDB, 0xFFFF_FFDB),
    ],
)
def test_impossible_length_is_ignored(size: int) -> None:
    for data in (
        raw_wav(SOUND, riff_size=min(size + 36, 2**32 - 1), data_size=size),
        raw_wav(SOUND, data_size=size),
        wav(FORMAT, chunk(b"LIST", b"INFOISFT\x0e\0\0\0" + b"x" * 14), chunk(b"data", SOUND, size=size)),
    ):
        assert bare_wav(data) == PLAIN
        assert missing_share(data) == 0


@pytest.mark.parametrize("size", [len(SOUND) + 2, 2 * len(SOUND), 1_920_000, 10_000_000, 100_000_000])
def test_possible_length_is_used(size: int) -> None:
    assert missing_share(raw_wav(SOUND, data_size=size)) == pytest.approx(1 - len(SOUND) / size)


def test_round_length_that_is_there_leaves_what_follows_alone() -> None:
    sound = bytes(10_000_000)
    assert bare_wav(wav(FORMAT, chunk(b"data", sound), chunk(b"LIST", b"odd"))) == raw_wav(sound)


def test_header_that_was_never_completed() -> None:
    assert bare_wav(raw_wav(SOUND, riff_size=36, data_size=0)) == PLAIN
    assert bare_wav(wav(FORMAT, chunk(b"data", b""), chunk(b"LIST", b"INFO"), riff_size=48)) == raw_wav(b"")


@pytest.mark.parametrize(
    "first",
    [
        PLAIN,
        wav(FORMAT, chunk(b"data", SOUND), chunk(b"LIST", b"odd")),
        raw_wav(SOUND, riff_size=2**32 - 1, data_size=2**32 - 1),
        raw_wav(SOUND, riff_size=0, data_size=0),
        raw_wav(SOUND, data_size=2_000_000_000),
    ],
)
def test_joined_files_are_all_read(first: bytes) -> None:
    for last in (PLAIN, first):
        joined = first + first + last
        assert bare_wav(joined)[44:] == 3 * SOUND
        assert missing_share(joined) == 0
        assert is_one_format(joined)
    assert missing_share(first + PLAIN[: -len(SOUND) // 2]) == pytest.approx(0.25, abs=0.01)


def test_joined_files_of_different_formats_are_detected() -> None:
    other = bytearray(PLAIN)
    other[24:28] = (8_000).to_bytes(4, "little")
    assert not is_one_format(PLAIN + other)
    assert is_one_format(PLAIN)
    assert is_one_format(b"")


def test_very_many_joined_files_take_no_time() -> None:
    begun_s = time.process_time()
    assert is_one_format(raw_wav(b"", riff_size=36, data_size=0) * 100_000)
    assert missing_share(raw_wav(SOUND, data_size=2_000_000_000) * 5_000) == 0
    assert time.process_time() - begun_s < 2


def test_round_length_at_a_high_byte_rate_is_ignored() -> None:
    wide = raw_wav(SOUND, channels=2, rate=96_000, bits=32, data_size=500_000_000)  # less than an hour
    assert missing_share(wide) == 0
    assert missing_share(raw_wav(SOUND, channels=2, rate=96_000, bits=32, data_size=500_000_004)) > 0.9


def test_what_is_missing_is_measured() -> None:
    assert missing_share(PLAIN[: 44 + len(SOUND) // 4]) == pytest.approx(0.75)
    assert missing_share(raw_wav(b"", data_size=1_000)) == 1
    assert missing_share(raw_wav(b"")) == missing_share(b"") == missing_share(PLAIN[:30]) == 0


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_beginnings_of_a_wav_do_no_harm(length: int) -> None:
    assert bare_wav(PLAIN[:length])[:4] == b"RIFF"


@pytest.mark.parametrize("data", [video_file(), video_file("mov"), audio_file("ipod", "aac"), b"", b"\0\0\0\x08free"])
def test_complete_mp4_is_well_formed(data: bytes) -> None:
    assert is_well_formed_mp4(data)


def test_frames_may_be_cut_off_but_not_the_index() -> None:
    data = video_file()
    index = data.index(b"moov") - 4
    assert is_well_formed_mp4(data[: index - 9])
    assert not is_well_formed_mp4(data[:-9])


@pytest.mark.parametrize("size", [b"\x7f\xff\xff\xff", b"\0\0\0\x07", b"\0\0\0\x01"])
def test_index_with_a_wrong_size_is_refused(size: bytes) -> None:
    data = bytearray(video_file())
    index = data.index(b"moov") - 4
    data[index : index + 4] = size
    assert not is_well_formed_mp4(bytes(data))
    assert not is_well_formed_mp4(b"\0\0\0\x01moov" + (2**62).to_bytes(8))


def test_long_fragmented_files_are_well_formed() -> None:
    assert is_well_formed_mp4((b"\0\0\0\x10moof" + bytes(8) + b"\0\0\0\x10mdat" + bytes(8)) * 10_000)
    assert not is_well_formed_mp4(b"\0\0\0\x08free" * 200_000)


def test_compressed_index_is_refused() -> None:
    assert not is_well_formed_mp4(b"\0\0\0\x20moov\0\0\0\x18cmov\0\0\0\x0cdcomzlib\0\0\0\0")
