"""What a model is, by its `config.json`, before it is loaded; and speech models in the local engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import InvalidGeneration
from engine.interface import Control, Conversation, EngineState, Message, Sampling, SpeechWindow, TextPart
from engine.local import engine_args
from engine.local.engine import LocalEngine
from engine.model_config import model_config, transcribes
from settings import EngineSettings

WHISPER = {
    "architectures": ["WhisperForConditionalGeneration"],
    "decoder_layers": 6,
    "d_model": 512,
    "max_target_positions": 448,
    "max_source_positions": 1_500,
}
CONVERSATION = Conversation((Message("user", (TextPart("hello"),)),), Sampling(0.0, 5))
WINDOW = SpeechWindow(bytes(4_000), Sampling(0.0, 5), "en")


def model(folder: Path, text: str, **settings: object) -> EngineSettings:
    """The settings of a model with this `config.json`."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)
    return EngineSettings(model_name=str(folder), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (json.dumps(WHISPER), True),
        ('{"architectures": ["LlamaForCausalLM"]}', False),
        ("{}", False),
        ('{"architectures": "WhisperForConditionalGeneration"}', False),
        ('{"architectures": [1, null]}', False),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
        ("\x00\xff", None),
    ],
)
def test_a_speech_model_is_known_by_its_architecture(tmp_path: Path, text: str, known: bool | None) -> None:
    assert transcribes(model(tmp_path, text)) is known


def test_a_model_that_is_not_here_may_be_anything(tmp_path: Path) -> None:
    assert transcribes(EngineSettings(model_name="org/model", hf_cache=str(tmp_path))) is None
    assert model_config(EngineSettings(model_name=str(tmp_path / "none"))) is None
    assert transcribes(model(tmp_path, json.dumps(WHISPER), base_url="http://127.0.0.1:1/v1")) is None


def test_a_download_is_known_as_well(tmp_path: Path) -> None:
    revision = tmp_path / "models--openai--whisper-base" / "snapshots" / "a1"
    revision.mkdir(parents=True)
    (revision / "config.json").write_text(json.dumps(WHISPER))
    assert transcribes(EngineSettings(model_name="openai/whisper-base", hf_cache=str(tmp_path)))


def test_messages_to_a_speech_model_are_refused_before_a_load(tmp_path: Path) -> None:
    engine = LocalEngine(model(tmp_path / "whisper", json.dumps(WHISPER), served_name="ears"))
    for ask in (engine.check, lambda request, control: engine.generate([request], control)):
        with pytest.raises(InvalidGeneration, match=r"The model ears transcribes speech and takes no messages"):
            ask(CONVERSATION, Control())
    assert engine.status().state is EngineState.UNLOADED


def test_speech_to_another_model_is_refused_before_a_load(tmp_path: Path) -> None:
    engine = LocalEngine(model(tmp_path, '{"architectures": ["LlamaForCausalLM"]}', served_name="mouth"))
    with pytest.raises(InvalidGeneration, match=r"The model mouth does not transcribe: .* or set VLLM_ASR_MODEL"):
        engine.transcribe([WINDOW], Control())
    assert engine.transcribe([], Control()) == []
    assert engine.status().state is EngineState.UNLOADED


@pytest.mark.parametrize(
    ("dtype", "cpu", "used"),
    [
        ("auto", "AVX512", "bfloat16"),
        ("auto", "AVX2", "float32"),
        ("float16", "AVX512", "bfloat16"),
        ("float16", "AVX2", "float32"),
        ("float32", "AVX512", "float32"),
        ("bfloat16", "AVX2", "bfloat16"),
        ("auto", "", "auto"),
        ("float16", "", "float16"),
    ],
)
def test_a_cpu_gets_the_data_type_that_it_is_fast_with(tmp_path: Path, dtype: str, cpu: str, used: str) -> None:
    settings, on_cpu = model(tmp_path, json.dumps(WHISPER), dtype=dtype), bool(cpu)
    arguments = engine_args.speech_arguments(
        settings, WHISPER, on_cpu=on_cpu, free_bytes=8 << 30, cpu_capability=cpu or "AVX2"
    )
    assert arguments["dtype"] == used
    assert ("gpu_memory_utilization" in arguments) != on_cpu


def test_the_arguments_of_a_speech_model(tmp_path: Path) -> None:
    settings = model(tmp_path, json.dumps(WHISPER), extra_engine_args={"max_num_seqs": 2})
    arguments = engine_args.speech_arguments(
        settings, WHISPER, on_cpu=True, free_bytes=8 << 30, cpu_capability="AVX512"
    )
    assert arguments["logits_processors"] == ["engine.local.inputs.whisper_rules:WhisperRules"]
    assert arguments["limit_mm_per_prompt"] == {"audio": 1}
    assert (arguments["max_num_seqs"], arguments["mm_processor_cache_gb"]) == (2, 0)
    assert "max_model_len" not in arguments


def test_the_cache_of_a_speech_model_is_small(tmp_path: Path) -> None:
    """For whisper-base, a window takes 2 (keys, values) * 6 layers * 512 * 2,048 positions * 2 bytes."""
    settings, window = model(tmp_path, json.dumps(WHISPER)), 2 * 6 * 512 * 2_048 * 2
    sized = engine_args.speech_kv_cache_bytes
    assert sized(settings, WHISPER, "bfloat16", 8 << 30) == 8 * window
    assert sized(settings, WHISPER, "float32", 8 << 30) == 16 * window
    assert sized(settings, WHISPER, "bfloat16", 400 << 20) == 100 << 20
    assert sized(settings, WHISPER, "bfloat16", 0) == window
    assert sized(model(tmp_path, "{}", cpu_kvcache_space_gib=0.125), WHISPER, "bfloat16", 8 << 30) == 128 << 20
    assert sized(settings, {}, "bfloat16", None) == 8 * window
