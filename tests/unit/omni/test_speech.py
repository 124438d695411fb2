"""Speech: the parameters, what a text may last, which models speak, and the marks in audio files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest

from http_client.model_list import ServedModel
from media.decoding.audio import check_audio
from omni.errors import InvalidParameters, InvalidResponse
from omni.files.audio_marks import is_ours, with_audio_text
from omni.speech.generate import checked
from omni.speech.models import speaks
from omni.speech.parameters import SpeechOptions, SpeechParameters, longest_s, resolve_speech, shortest_s
from tests.decoder import DECODER
from tests.scripted_speech import CODECS, speech
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, tone

TEXT = '{"text":"Grüße, 你好"}'
SENTENCE = "The quick brown fox jumps over the lazy dog."


def parameters(text: str = SENTENCE, **options: object) -> SpeechParameters:
    return resolve_speech("m", text, SpeechOptions(seed=1, **options), has_reference=False)  # type: ignore[arg-type]


def samples(data: bytes) -> bytes:
    with av.open(io.BytesIO(data), "r") as container:
        return bytes(np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).tobytes())


FILES = {
    **{kind: audio_file(kind, codec, 24_000, seconds=1) for kind, codec in CODECS.items()},
    "mp3 with tags": audio_file("mp3", "libmp3lame", 24_000, seconds=1, tags={"title": "a"}),
    "flac with tags": audio_file("flac", "flac", 24_000, seconds=1, tags={"title": "a"}),
    "flac behind a tag": b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + audio_file("flac", "flac", 24_000, seconds=1),
    "wav, odd": raw_wav(pcm(tone(8_000, 1))[:-1], rate=8_000),
    "wav of open size": raw_wav(pcm(tone(8_000, 1)), rate=8_000, data_size=0xFFFFFFFF),
}


@pytest.mark.parametrize("name", FILES)
def test_marked_file_sounds_the_same_and_is_known(name: str) -> None:
    marked = with_audio_text(FILES[name], TEXT)
    assert is_ours(io.BytesIO(marked))
    assert not is_ours(io.BytesIO(FILES[name]))
    assert TEXT.encode() in marked
    before, after = check_audio(FILES[name], 60), check_audio(marked, 60)
    assert after == before
    if "behind a tag" not in name:
        assert samples(marked)[: len(samples(FILES[name])) - 2] == samples(FILES[name])[:-2]


@pytest.mark.parametrize(("kind", "key"), [("wav", "comment"), ("mp3", "comment")])
def test_players_show_the_text(kind: str, key: str) -> None:
    with av.open(io.BytesIO(with_audio_text(FILES[kind], TEXT)), "r") as container:
        assert container.metadata[key] == TEXT
        assert container.metadata["encoder"] == "vllm-mcp-server"


@pytest.mark.parametrize("data", [b"", b"RIFF", b"ID3", b"fLaC", b"RIFF\0\0\0\0WAVE", b"a" * 500])
def test_other_files_are_not_ours(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    with open(tmp_path / "a.wav", "rb") as file:
        assert not is_ours(file)


def test_only_three_formats_are_marked() -> None:
    with pytest.raises(ValueError, match="not a WAV"):
        with_audio_text(audio_file("ogg", "libopus", 48_000, seconds=1), TEXT)


def test_what_is_heard_of_a_file_is_counted() -> None:
    half = np.concatenate([tone(16_000, 1), np.zeros(16_000), tone(16_000, 1, 0.0005)])
    facts = check_audio(audio_file(samples=half), 60)
    assert (facts.duration_s, facts.sample_rate) == (3.0, 16_000)
    assert facts.heard_s == pytest.approx(1, abs=0.03)
    assert check_audio(raw_wav(b""), 60).heard_s == 0


@pytest.mark.parametrize("text", ["Hi", "1,000,000", "你好世界", SENTENCE, "a" * 1_000, "!?", "🙂"])
def test_usual_speech_lies_within_the_bounds(text: str) -> None:
    """From fast speakers, of 0.05 s a letter, to slow ones, of half a second a character."""
    wanted = parameters(text)
    assert shortest_s(wanted) < 0.05 * sum(map(str.isalnum, text)) + 0.05
    assert longest_s(wanted) > 0.5 * len(text) + 1


def test_speed_moves_the_bounds() -> None:
    usual, fast = parameters(), parameters(speed=4)
    assert shortest_s(fast) == shortest_s(usual) / 4
    assert longest_s(fast) == longest_s(usual) / 4


def test_click_in_silence_is_no_speech() -> None:
    click = np.zeros(24_000 * 3)
    click[500] = 0.9
    with pytest.raises(InvalidResponse, match=r"0\.02 s can be heard of its 3\.00 s, and this text takes"):
        checked(audio_file(rate=24_000, samples=click), parameters(), DECODER)


@pytest.mark.parametrize("kind", CODECS)
def test_whole_speech_is_taken_and_a_cut_one_is_not(kind: str) -> None:
    data, wanted = speech(SENTENCE, kind), parameters(format=kind)
    assert checked(data, wanted, DECODER).duration_s == pytest.approx(0.06 * len(SENTENCE), abs=0.1)
    with pytest.raises(InvalidResponse):
        checked(data[: len(data) // 2], wanted, DECODER)


def test_request_has_only_what_was_chosen() -> None:
    assert parameters().request(None) == {"input": SENTENCE, "response_format": "wav", "speed": 1.0, "seed": 1}
    fields = parameters(voice="a", language="b", instructions="c").request(b"RIFF")
    assert json.loads(json.dumps(fields))["ref_audio"] == "data:audio/wav;base64,UklGRg=="


@pytest.mark.parametrize(
    ("text", "options", "has_reference"),
    [(" ", {}, False), ("a", {"voice": "v"}, True), ("a", {"reference_text": "r"}, False)],
)
def test_contradictions_are_refused(text: str, options: dict[str, str], has_reference: bool) -> None:
    with pytest.raises(InvalidParameters):
        resolve_speech("m", text, SpeechOptions(**options), has_reference=has_reference)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("k2-fsa/OmniVoice", True),
        ("Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice", True),
        ("FunAudioLLM/Fun-CosyVoice3-0.5B-2512", True),
        ("/cache/1/tiny-omnivoice", True),
        ("black-forest-labs/FLUX.2-klein-4B", False),
        ("Wan-AI/Wan2.2-S2V-14B", False),
        ("demo-image", False),
        ("stabilityai/stable-audio-open-1.0", False),
        ("somebody/talker", None),
    ],
)
def test_models_are_told_by_their_names(model: str, found: bool | None) -> None:
    assert speaks(ServedModel(model)) is found


def test_files_of_a_model_say_more_than_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["OmniVoice"]}')
    assert speaks(ServedModel("mine", root=str(tmp_path))) is True
    (tmp_path / "config.json").write_text("[]")
    assert speaks(ServedModel("mine", root=str(tmp_path))) is None
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    assert speaks(ServedModel("tts", root=str(tmp_path))) is False
