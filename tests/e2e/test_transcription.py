"""transcribe_audio with whisper-base: what espeak-ng says, in several languages and files; silence, noise, and ends."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.decoding.muxing import add_audio
from tests.e2e import real_models
from tests.e2e.server_process import LOAD_S, ROOT, ServerProcess
from tests.speech import SAMPLE_RATE, duration_s, silence, speech, wav, word_error_rate
from tests.spoken_texts import GERMAN
from tests.unit.media.hostile_files import swollen_mp4s
from tests.unit.media.sample_media import audio_file, video_file

MODEL = "whisper-base"
TRANSCRIBE = "transcribe_audio"
ENGLISH = (
    "The old lighthouse stood at the edge of the village, where the road ended and the rocks began. Every evening the "
    "keeper climbed the narrow stairs and lit the lamp before the boats came home. He had done this for thirty years, "
    "and he knew the name of every captain by the sound of the horn. One winter morning a young woman arrived with a "
    "small suitcase and a letter. She said that she had been sent to learn the work, because the machines would soon "
    "replace the men. The keeper laughed, but he showed her the engine room, the books and the view from the top. They "
    "drank tea and talked about the weather until it was dark. In the spring the company sent two engineers with a "
    "truck full of equipment. They measured the walls, counted the windows and wrote long reports. The keeper watched "
    "them in silence. When they left, the woman asked him what he would do now. He said that he would buy a boat, "
    "paint it blue and go fishing for the rest of his life. She stayed for another year. On the last day she switched "
    "off the lamp herself, locked the door and carried the key to the museum in the town. The children still visit the "
    "lighthouse on Sundays, and they always ask who lived there."
)
SHORT = (
    "In the spring the company sent two engineers with a truck full of equipment. When they left, the woman asked him "
    "what he would do now."
)
OTHERS = {
    "de": (
        "Guten Morgen. Heute ist das Wetter sehr schön, und wir gehen zusammen in die Stadt. Am Nachmittag besuchen "
        "wir das Museum und trinken danach einen Kaffee. Am Abend fahren wir mit dem Zug nach Hause."
    ),
    "es": (
        "Buenos días. Hoy hace muy buen tiempo y vamos a la ciudad. Por la tarde visitamos el museo y después tomamos "
        "un café con nuestros amigos. Por la noche volvemos a casa en tren."
    ),
    "it": (
        "Buongiorno. Oggi il tempo è molto bello e andiamo insieme in città. Nel pomeriggio visitiamo il museo e poi "
        "prendiamo un caffè con gli amici. La sera torniamo a casa in treno."
    ),
}
WORST = {"de": 0.35, "es": 0.3, "it": 0.4}
"""espeak-ng's voices are hard to understand, most of all for a small model."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess({"VLLM_ASR_MODEL": real_models.folder(MODEL)}) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One and a half minutes."""
    path = tmp_path_factory.mktemp("speech") / "english.wav"
    path.write_bytes(speech(ENGLISH, words_per_minute=125))
    assert duration_s(path.read_bytes()) > 85
    return str(path)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A few seconds."""
    path = tmp_path_factory.mktemp("speech") / "short.wav"
    path.write_bytes(speech(SHORT))
    return str(path)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty minutes: the long text, with pauses, again and again."""
    with wave.open(io.BytesIO(speech(ENGLISH, pauses_s=(0.5, 0.5)))) as reader:
        samples = reader.readframes(reader.getnframes())
    path = tmp_path_factory.mktemp("speech") / "long.wav"
    path.write_bytes(wav(samples * (1 + 1_200 * 2 * SAMPLE_RATE // len(samples))))
    return str(path)


def transcribed(server: ServerProcess, audio_path: str, **arguments: Any) -> Json:
    """The structured result of a call that succeeds."""
    answer = server.call(TRANSCRIBE, {"audio_path": audio_path, **arguments})["result"]
    assert not answer["isError"], answer
    found: Json = answer["structuredContent"]
    return found


def error(server: ServerProcess, tool: str, arguments: Json) -> str:
    """The text of a call that fails."""
    answer = server.call(tool, arguments)["result"]
    assert answer["isError"], answer
    text: str = answer["content"][0]["text"]
    return text


def job_status(server: ServerProcess, job_id: str, wait_s: float = 0) -> Json:
    """What job_status says."""
    answer = server.call("job_status", {"job_id": job_id, "wait_s": wait_s})["result"]
    found: Json = json.loads(answer["content"][0]["text"])
    return found


def as_file(wav_file: bytes, format: str, codec: str, rate: int, layout: str) -> bytes:
    """A WAV file in another format."""
    with wave.open(io.BytesIO(wav_file)) as reader:
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2") / 32_768
    places = np.arange(0, len(samples), SAMPLE_RATE / rate)
    return audio_file(format, codec, rate, layout, samples=np.interp(places, np.arange(len(samples)), samples))


# What is said


def test_a_long_text_is_written_down_as_well_as_by_the_model_as_a_whole(server: ServerProcess, english: str) -> None:
    """Its windows lose and double no words: transformers hears it with the times of each window leading to the next."""
    found = transcribed(server, english)
    whole = subprocess.run(
        [sys.executable, "-m", "tests.e2e.whisper_reference", real_models.folder(MODEL), english],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    ours, theirs = word_error_rate(ENGLISH, found["text"]), word_error_rate(ENGLISH, json.loads(whole.stdout)["text"])
    print(f"word error rate of {found['duration_s']:.0f} s: {ours:.3f}, transformers {theirs:.3f}")
    print(f"{found['duration_s'] * 1e3 / (found['timings']['total_ms'] - found['timings']['load_ms']):.1f} x real time")
    assert ours <= theirs + 0.02
    assert (found["language"], found["finish_reason"], found["model"]) == ("en", "stop", MODEL)
    assert found["language_probability"] > 0.8
    assert found["transcribed_s"] == found["duration_s"]


def test_segments_follow_each_other_and_make_up_the_text(server: ServerProcess, english: str) -> None:
    arguments = {"audio_path": english, "language": "English", "format": "vtt"}
    call_id = server.send_call(TRANSCRIBE, arguments, meta={"progressToken": "p"})
    progress: list[Json] = []
    while (answer := server.read_message(LOAD_S)).get("id") != call_id:
        progress += [answer["params"]] if answer["method"] == "notifications/progress" else []
    found = answer["result"]["structuredContent"]
    segments = found["segments"]
    assert " ".join(segment["text"] for segment in segments) == found["text"]
    times = [time_s for segment in segments for time_s in (segment["start_s"], segment["end_s"])]
    assert times == sorted(times)
    assert len(segments) >= 8
    assert times[-1] <= found["duration_s"]
    assert all(segment["no_speech_prob"] < 0.6 and segment["avg_logprob"] < 0 for segment in segments)
    cues = answer["result"]["content"][0]["text"].split("\n\n")
    assert cues[0] == "WEBVTT"
    assert len(cues) == len(segments) + 1
    assert progress[-1]["progress"] == pytest.approx(found["duration_s"], abs=0.1)
    assert all(params["total"] == pytest.approx(found["duration_s"], abs=0.1) for params in progress)


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_are_found_and_written_down(server: ServerProcess, tmp_path: Path, language: str) -> None:
    (tmp_path / "a.wav").write_bytes(speech(OTHERS[language], language, 120))
    found = transcribed(server, str(tmp_path / "a.wav"))
    rate = word_error_rate(OTHERS[language], found["text"])
    print(f"word error rate in {language}: {rate:.3f}: {found['text']}")
    assert found["language"] == language
    assert rate <= WORST[language]


def test_a_language_in_which_the_model_only_stammers_is_not_taken(server: ServerProcess, tmp_path: Path) -> None:
    """The model is rather sure that this is Yiddish, and would write one syllable again and again."""
    (tmp_path / "a.wav").write_bytes(speech(GERMAN, "de"))
    found = transcribed(server, str(tmp_path / "a.wav"))
    print(f"word error rate: {word_error_rate(GERMAN, found['text']):.3f}: {found['text']}")
    assert found["language"] == "de"
    assert word_error_rate(GERMAN, found["text"]) <= WORST["de"]


def test_speech_is_translated_into_english(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(speech(OTHERS["es"], "es", 120))
    found = transcribed(server, str(tmp_path / "a.wav"), language="es", task="translate")
    assert {"good", "museum"} <= set(found["text"].casefold().replace(",", " ").replace("!", " ").split())
    assert (found["language"], found["language_probability"]) == ("es", None)


def test_a_prompt_does_not_disturb_the_text(server: ServerProcess, short: str) -> None:
    found = transcribed(server, short, prompt="A traveller reads the timetable of the railway.")
    assert word_error_rate(SHORT, found["text"]) <= 0.2


FILES: dict[str, Callable[[bytes], bytes]] = {
    "WAV at 44.1 kHz in stereo": lambda data: as_file(data, "wav", "pcm_s16le", 44_100, "stereo"),
    "MP3": lambda data: as_file(data, "mp3", "libmp3lame", 24_000, "mono"),
    "Opus in WebM": lambda data: as_file(data, "webm", "libopus", 48_000, "mono"),
    "video": lambda data: add_audio(video_file(frames=100, fps=8), data),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_heard_alike(server: ServerProcess, short: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(FILES[name](Path(short).read_bytes()))
    assert word_error_rate(SHORT, transcribed(server, str(tmp_path / "a"), language="en")["text"]) <= 0.15


# No speech


def noise(loudness: float) -> bytes:
    """A WAV file of white noise."""
    samples = np.random.default_rng(1).normal(0, loudness, SAMPLE_RATE * 20)
    return wav((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())


def tone(hertz: float) -> bytes:
    """A WAV file of a tone."""
    samples = 0.3 * np.sin(np.arange(SAMPLE_RATE * 20) / SAMPLE_RATE * hertz * 2 * np.pi)
    return wav((samples * 32_767).astype("<i2").tobytes())


NO_SPEECH: dict[str, Callable[[], bytes]] = {
    "silence": lambda: silence(65),
    "noise": lambda: noise(0.1),
    "faint noise": lambda: noise(0.003),
    "a tone": lambda: tone(440),
    "a hum": lambda: tone(50),
}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_what_is_no_speech_gives_no_words(server: ServerProcess, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.wav").write_bytes(NO_SPEECH[name]())
    found = transcribed(server, str(tmp_path / "a.wav"))
    assert (found["text"], found["segments"], found["language"], found["finish_reason"]) == ("", [], None, "stop")


def test_pauses_add_no_words_and_move_the_times(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(speech(SHORT, pauses_s=(40.0, 40.0)))
    found = transcribed(server, str(tmp_path / "a.wav"), language="en")
    assert word_error_rate(SHORT, found["text"]) <= 0.2
    assert found["segments"][0]["start_s"] >= 35


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: data[: len(data) // 2], "cut off"),
    "garbage": (lambda data: np.random.default_rng(2).bytes(50_000), "not audio in a supported format"),
    "a WAV of garbage": (lambda data: data[:20] + np.random.default_rng(2).bytes(500), "audio"),
    "text": (lambda data: b"This is a plain text.\n" * 100, "not audio in a supported format"),
    "a swollen table": (lambda data: swollen_mp4s()["stsz of several tracks"], "audio"),
    "a silent film": (lambda data: video_file(), "video without an audio track"),
    "nothing": (lambda data: b"", "empty"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_its_own_call_alone(server: ServerProcess, short: str, tmp_path: Path, name: str) -> None:
    make, text = HOSTILE[name]
    (tmp_path / "a.wav").write_bytes(make(Path(short).read_bytes()))
    assert text in error(server, TRANSCRIBE, {"audio_path": str(tmp_path / "a.wav")})
    assert server.call("model_info")["result"]["isError"] is False


# Jobs and ends


def test_a_job_goes_on_while_the_chat_model_answers(server: ServerProcess, english: str) -> None:
    running = transcribed(server, english, language="en", wait_s=0)
    assert (running["status"], running["finish_reason"]) == ("running", None)
    messages = [{"role": "user", "content": "Hello"}]
    chat = server.call("chat_completion", {"messages": messages, "max_tokens": 20, "temperature": 0})["result"]
    assert not chat["isError"], chat
    done = job_status(server, running["job_id"], wait_s=200)
    assert (done["status"], done["finish_reason"]) == ("done", "stop")
    assert done["text"] == transcribed(server, english, language="en")["text"]


def test_a_cancelled_job_ends_and_leaves_the_model(server: ServerProcess, long: str, short: str) -> None:
    running = transcribed(server, long, language="en", wait_s=1)
    cancelled = server.call("cancel_batch", {"batch_id": running["job_id"]})["result"]["structuredContent"]
    assert cancelled["status"] in ("cancelled", "cancelling")
    assert job_status(server, running["job_id"], wait_s=60)["status"] == "cancelled"
    assert word_error_rate(SHORT, transcribed(server, short)["text"]) <= 0.15


def test_a_cancelled_call_cancels_its_job(server: ServerProcess, long: str, short: str) -> None:
    call_id = server.send_call(TRANSCRIBE, {"audio_path": long, "language": "en"}, meta={"progressToken": "c"})
    while server.read_message().get("method") != "notifications/progress":
        pass
    server.notify("notifications/cancelled", {"requestId": call_id})
    jobs = server.call("list_jobs", {"limit": 1})["result"]["structuredContent"]["jobs"]
    assert job_status(server, jobs[0]["job_id"], wait_s=60)["status"] == "cancelled"
    assert word_error_rate(SHORT, transcribed(server, short)["text"]) <= 0.15


def test_at_the_callers_deadline_there_is_the_text_so_far(server: ServerProcess, long: str) -> None:
    found = transcribed(server, long, language="en", timeout_s=20)
    assert (found["status"], found["finish_reason"]) == ("done", "timeout")
    assert found["transcribed_s"] < found["duration_s"]
    assert all(segment["start_s"] < found["transcribed_s"] for segment in found["segments"])


# Models of another kind


def test_messages_to_the_speech_model_and_speech_to_another_are_refused(server: ServerProcess, short: str) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    text = error(server, "chat_completion", {"messages": messages, "model": MODEL})
    assert text == (
        f"The model {MODEL} transcribes speech and takes no messages. Use transcribe_audio with it, or name another "
        "model."
    )
    assert "does not transcribe" in error(server, TRANSCRIBE, {"audio_path": short, "model": "demo-vlm"})
