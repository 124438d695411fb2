"""Audio in messages, heard by a tiny random Qwen2-Audio: the same sound gives the same tokens, another sound others."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidGeneration
from engine.interface import AudioPart, Control, Conversation, ImagePart, Message, Sampling, TextPart
from engine.local.engine import LocalEngine
from engine.parts import Part
from engine.prompts import rendering
from engine.prompts.media_parts import vllm_part
from settings import EngineSettings
from tests.e2e import tiny_audio
from tests.e2e.images import asked, drawn, image_part
from tests.e2e.media_answers import error
from tests.e2e.model_server import ModelServer
from tests.e2e.server_process import Json, ServerProcess
from tests.unit.media.sample_media import audio_file, video_file

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries that vLLM brings
]

N_TOKENS = 12
PROMPT = "<|im_start|>user:Say{}<|im_end|><|im_start|>assistant:"
PLACE = tiny_audio.BEGIN + tiny_audio.AUDIO + tiny_audio.END
GREEDY: Json = {"temperature": 0, "max_tokens": N_TOKENS, "ignore_eos": True}


def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> Any:
    """A tone as an array."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def wav(hertz: float, seconds: float = 1.0) -> bytes:
    """A tone as a WAV file of 16-bit samples."""
    return audio_file(samples=tone(hertz, seconds))


def audio_part(data: bytes, form: str = "wav") -> Json:
    """A content part in OpenAI's form."""
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


# The engine in this process, beside raw vLLM


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    folder = str(tiny_audio.audio_model())
    loaded = LocalEngine(EngineSettings(model_name=folder, cpu_kvcache_space_gib=0.125), log_level="ERROR")
    loaded.load()
    yield loaded
    loaded.release()  # `close` leaves vLLM's state to the end of the process
    loaded.close()


def heard(samples: Any) -> AudioPart:
    """The samples as a part."""
    data = samples.astype("<f4").tobytes()
    return AudioPart(data, f"audio-{hash(data)}")


def conversation(*parts: Part) -> Conversation:
    return Conversation((Message("user", (TextPart("Say"), *parts)),), Sampling(0.0, N_TOKENS, ignore_eos=True))


def raw_answers(engine: LocalEngine, *sounds: list[Any]) -> list[tuple[str, int]]:
    """The text and the prompt's tokens from `vllm.LLM.generate` with the arrays themselves, for each prompt."""
    from vllm import SamplingParams

    assert engine._model is not None
    prompts = [
        {
            "prompt": PROMPT.format(PLACE * len(each)),
            "multi_modal_data": {"audio": [(samples.astype("f4"), 16_000) for samples in each]},
        }
        for each in sounds
    ]
    params = SamplingParams(temperature=0, max_tokens=N_TOKENS, ignore_eos=True)
    outputs = engine._model.llm.generate(prompts, params, use_tqdm=False)
    return [(output.outputs[0].text, len(output.prompt_token_ids)) for output in outputs]


def test_status_says_what_a_loaded_model_takes(engine: LocalEngine) -> None:
    status = engine.status()
    assert (status.supports_images, status.supports_audio, status.supports_video) == (False, True, False)
    assert LocalEngine(EngineSettings(), log_level="ERROR").status().supports_audio is None


def test_same_sound_gives_the_same_tokens_as_raw_vllm_and_another_sound_others(engine: LocalEngine) -> None:
    sounds = [[tone(440)], [tone(1_000)], [tone(440, 3.2)], [tone(440), tone(1_000)], [0 * tone(1)]]
    made = engine.generate([conversation(*map(heard, each)) for each in sounds], Control())
    assert [completion.error for completion in made] == [None] * len(sounds)
    raw = raw_answers(engine, *sounds)
    assert [(completion.text, completion.prompt_tokens) for completion in made] == raw
    assert len({completion.text for completion in made}) == len(sounds)
    assert made[2].prompt_tokens - made[0].prompt_tokens == round(2.2 * tiny_audio.TOKENS_PER_S)
    assert [(each.audio_tokens, each.image_tokens, each.video_tokens) for each in made[:2]] == [(25, 0, 0)] * 2


def test_model_gets_audio_at_its_own_rate(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 24 kHz gets a WAV of 24 kHz: vLLM could not resample it."""
    assert engine._model is not None
    processor = engine._model.llm.renderer.get_mm_processor()
    resampler = processor.info.data_parser.audio_resampler
    monkeypatch.setattr(resampler, "target_sr", 24_000)
    monkeypatch.setattr(rendering, "vllm_part", lambda part, rate: vllm_part(part, 24_000))
    (made,) = engine.generate([conversation(heard(tone(700)))], Control())
    assert made.error is None
    assert made.prompt_tokens > 0


def test_more_than_the_limit_and_other_media_are_refused(engine: LocalEngine) -> None:
    with pytest.raises(InvalidGeneration, match="5 audio parts; the maximum is 4"):
        engine.generate([conversation(*(heard(tone(100 * n)) for n in range(1, 6)))], Control())
    with pytest.raises(InvalidGeneration, match="does not accept images"):
        engine.generate([conversation(ImagePart(drawn("red"), "a"))], Control())
    (made,) = engine.generate([conversation(heard(tone(440)))], Control())
    assert made.text == raw_answers(engine, [tone(440)])[0][0]


def test_text_cannot_forge_the_place_of_a_sound(engine: LocalEngine) -> None:
    forged = Conversation((Message("user", (TextPart(PLACE),)),), Sampling(0.0, 4))
    (made,) = engine.generate([forged], Control())
    assert made.error is None
    assert made.prompt_tokens > len(PLACE) / 2


# The server


def settings(**more: str) -> dict[str, str]:
    return {"VLLM_MODEL_NAME": str(tiny_audio.audio_model()), "VLLM_CPU_KVCACHE_SPACE": "0.125", **more}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions") / "sessions.db"


@pytest.fixture(scope="module")
def server(stored: Path) -> Iterator[ServerProcess]:
    with ServerProcess(settings(VLLM_SESSION_DB=str(stored))) as process:
        process.initialize()
        yield process


def answer(server: ServerProcess, messages: list[Json], **more: Any) -> Json:
    return server.result("chat_completion", {"messages": messages, **GREEDY, **more})


def error_of(server: ServerProcess, messages: list[Json]) -> str:
    return error(server, "chat_completion", {"messages": messages, **GREEDY})


def test_every_form_of_audio_is_the_same_sound(server: ServerProcess, tmp_path: Path) -> None:
    data = wav(440)
    text = base64.b64encode(data).decode()
    path = tmp_path / "tone.wav"
    path.write_bytes(data)
    forms: list[Json] = [
        audio_part(data),
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{text}"}},
        {"type": "audio", "path": str(path)},
        {"type": "audio", "data": text, "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "a:b", "blob": text, "mimeType": "audio/x-wav"}},
        {"type": "resource_link", "uri": path.as_uri(), "name": "tone", "mimeType": "audio/wav"},
        {"type": "audio", "source": {"type": "base64", "media_type": "audio/wav", "data": text}},
        {"inlineData": {"mimeType": "audio/wav", "data": text}},
        {"type": "audio", "audio": str(path)},
    ]
    answers = [answer(server, asked("Say", form)) for form in forms]
    assert len({each["text"] for each in answers}) == 1
    assert answers[0]["usage"]["prompt_tokens"] > tiny_audio.TOKENS_PER_S
    assert answer(server, asked("Say", audio_part(wav(1_000))))["text"] != answers[0]["text"]
    assert answer(server, asked("Say"))["text"] != answers[0]["text"]


def test_music_and_the_sound_of_a_video_are_heard(server: ServerProcess, tmp_path: Path) -> None:
    song = audio_file("mp3", "mp3", 44_100, "stereo", samples=tone(440, 2.0, 44_100))
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file(audio="aac", audio_s=1.0))
    bare = answer(server, asked("Say"))["usage"]["prompt_tokens"]
    for part in (audio_part(song, "mp3"), {"type": "audio", "path": str(clip)}):
        heard_tokens = answer(server, asked("Say", part))["usage"]["prompt_tokens"] - bare
        assert heard_tokens >= 0.9 * tiny_audio.TOKENS_PER_S


def test_batch_with_sounds_is_the_same_as_one_by_one(server: ServerProcess) -> None:
    conversations = [asked("Say", audio_part(wav(hertz))) for hertz in (300, 600, 1_200)]
    wrong = asked("Say", {"type": "audio", "data": "????"})
    arguments = {"conversations": [*conversations, wrong, asked("Say")], **GREEDY}
    *texts, refused, last = server.result("chat_completion_batch", arguments)["results"]
    assert [item["text"] for item in texts] == [answer(server, each)["text"] for each in conversations]
    assert "not base64" in refused["error"]
    assert last["error"] is None


def test_session_keeps_a_sound_over_turns_and_a_restart(server: ServerProcess, stored: Path) -> None:
    question = asked("Say", audio_part(wav(523)))
    first = answer(server, question, session_id="s")
    second = answer(server, asked("Again"), session_id="s")
    said = [*question, {"role": "assistant", "content": first["text"]}, *asked("Again")]
    assert second["text"] == answer(server, said)["text"]
    shown = server.result("get_session", {"session_id": "s"})["messages"]
    assert [(each["audio"], each["videos"], each["images"]) for each in shown] == [(1, 0, 0)] + [(0, 0, 0)] * 3
    (listed,) = server.result("list_sessions")["sessions"]
    assert (listed["images"], listed["image_bytes"]) == (0, 64_000)
    third = answer(server, asked("Once more"), session_id="s", fork_session=True, fork_session_id="before")
    with ServerProcess(settings(VLLM_SESSION_DB=str(stored))) as later:
        later.initialize()
        again = answer(later, asked("Once more"), session_id="s", fork_session=True)
        assert again["text"] == third["text"]
        assert again["usage"]["prompt_tokens"] == third["usage"]["prompt_tokens"]


def test_bad_audio_costs_its_own_call_alone(server: ServerProcess, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio at all")
    silent = video_file()
    cases: list[tuple[Json, str]] = [
        ({"type": "audio", "data": "????"}, "not base64"),
        (audio_part(b"\x00" * 5_000), "audio"),
        (audio_part(wav(440)[:-20_000]), "cut off"),
        (audio_part(wav(440, 0.006)), "too short: it lasts 0.006 s; the minimum is 0.1 s"),
        (audio_part(audio_file("flac", "flac", samples=0 * tone(1, 601))), "longer than 600 s"),
        (audio_part(silent), "no audio"),
        ({"type": "audio", "path": str(text)}, "audio"),
        ({"type": "audio", "path": str(tmp_path / "none.wav")}, "none.wav"),
        ({"type": "audio_url", "audio_url": {"url": "http://127.0.0.1:9/a.wav"}}, "127.0.0.1"),
        ({"type": "audio_url", "audio_url": {"url": "data:image/png;base64,AAAA"}}, '"image/png" is not an audio type'),
        ({"type": "audio", "path": "/a", "data": "AAAA"}, "an audio part needs exactly one of path and data"),
        ({"type": "video", "path": "/a"}, "does not accept videos"),
        (image_part(drawn("red")), "does not accept images"),
    ]
    good = answer(server, asked("Say", audio_part(wav(440))))["text"]
    for part, words in cases:
        assert words in error_of(server, asked("Say", part)), part
    assert answer(server, asked("Say", audio_part(wav(440))))["text"] == good
    five = asked("Say", *(audio_part(wav(100 * n)) for n in range(1, 6)))
    assert "5 audio parts; one prompt holds at most 4" in error_of(server, five)


def test_vllm_server_on_another_machine_hears_the_same(server: ServerProcess) -> None:
    with ModelServer(tiny_audio.audio_model()) as there:
        keys = {"VLLM_BASE_URL": f"{there.url}/v1", "VLLM_REMOTE_API_KEY": ModelServer.KEY}
        with ServerProcess(keys) as remote:
            remote.initialize()
            for question in (asked("Say", audio_part(wav(440))), asked("Say", audio_part(wav(1_000)))):
                here, said = answer(server, question), answer(remote, question)
                assert said["text"] == here["text"]
                assert said["usage"]["prompt_tokens"] == here["usage"]["prompt_tokens"]
            clip = {"type": "video", "data": base64.b64encode(video_file()).decode()}
            assert "refuses this request" in error_of(remote, asked("Say", clip))
            assert answer(remote, asked("Say"))["text"] == answer(server, asked("Say"))["text"]


def test_model_for_images_names_what_it_does_not_take(demo_server: ServerProcess, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file())
    refused = error_of(demo_server, asked("What is said?", audio_part(wav(440))))
    assert "demo-vlm does not accept audio" in refused
    refused = error_of(demo_server, asked("What happens?", {"type": "video", "path": str(clip)}))
    assert "demo-vlm does not accept videos" in refused
    assert "analyze_video" in refused
    demo_server.assert_serves()
