"""Which error a caller sees for what vLLM raises, and that its text is safe to show."""

import weakref
from typing import Any

import pytest

from engine.errors import EngineDied, GenerationFailed, InvalidGeneration, OutOfMemory
from engine.local import failures
from settings import EngineSettings
from settings.kinds import ModelOptions

SETTINGS = EngineSettings(model_name="org/model")


class VLLMClientError(Exception):
    pass


class VLLMValidationError(VLLMClientError):
    pass


class OutOfMemoryError(RuntimeError):
    pass


class EngineDeadError(Exception):
    pass


class MultiModalCacheMissError(Exception):
    pass


@pytest.mark.parametrize("error", [VLLMValidationError("no"), ValueError("no"), TypeError("no")])
def test_both_families_of_refusals_are_the_callers(error: Exception) -> None:
    assert type(failures.rejection(error)) is InvalidGeneration


def test_other_errors_of_a_request_are_not_the_callers() -> None:
    assert type(failures.rejection(RuntimeError("odd"))) is GenerationFailed


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        ("stop cannot be empty (parameter=stop, value=['secret'])", "stop cannot be empty."),
        ("lost <Tensor object at 0x7f00aa11bb22> here", "lost <Tensor> here."),
        ("token hf_abcdefghijklmnop was refused", "token hf_… was refused."),
        ("1 validation error\n  Value error, bad dtype [type=value_error, input_value=ArgsKwargs]", "bad dtype."),
    ],
)
def test_texts_hold_no_echo_no_address_and_no_token(raised: str, shown: str) -> None:
    assert str(failures.rejection(ValueError(raised))) == shown


def test_long_texts_are_cut() -> None:
    assert len(str(failures.rejection(ValueError("x" * 100_000)))) < 600


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("No available memory"),
    ],
)
def test_exhausted_memory_says_what_to_reduce(error: Exception) -> None:
    for failure in (failures.load_failure(error, SETTINGS), failures.step_failure(error, SETTINGS)):
        assert isinstance(failure, OutOfMemory)
        assert str(failure).startswith(
            "CUDA out of memory. Try: 1) Reduce VLLM_GPU_MEMORY_UTILIZATION (current: 0.9), 2) "
        )


@pytest.mark.parametrize(
    "error",
    [
        ImportError("/x/y.so: failed to map segment from shared object"),
        OSError(11, "Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
    ],
)
def test_a_system_that_gives_no_more_is_told_with_its_limits(error: Exception) -> None:
    for failure in (failures.load_failure(error, SETTINGS), failures.import_failure(error)):
        assert str(failure).startswith("Failed to initialize vLLM: the system gave the server no more memory")
        assert "ulimit" in str(failure)
        assert "/x/" not in str(failure)


def test_a_broken_step_is_a_dead_engine() -> None:
    assert isinstance(failures.step_failure(KeyError("x"), SETTINGS), EngineDied)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RuntimeError("R1ReasoningParser reasoning parser could not locate tokens!"), "VLLM_REASONING_PARSER"),
        (OSError("You are trying to access a gated repo."), "HUGGING_FACE_HUB_TOKEN"),
        (OSError("org/model is not a local folder and is not a valid model identifier"), "VLLM_MODEL_NAME"),
        (OSError("We couldn't connect to 'https://huggingface.co'"), "cannot be reached"),
        (RuntimeError("Cannot find any model weights with `x`"), "safetensors"),
        (ValueError("Please pass `trust_remote_code=True`"), '{"trust_remote_code": true}'),
        (RuntimeError("Engine core initialization failed. See root cause above."), "log"),
        (ValueError("something else"), "something else."),
    ],
)
def test_a_failed_load_says_what_and_what_to_do(error: Exception, hint: str) -> None:
    text = str(failures.load_failure(error, SETTINGS))
    assert text.startswith("Failed to initialize vLLM: ")
    assert hint in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError("Cannot allocate memory"),
        ValueError("Free memory on device cuda:0 (3.2/80 GiB) on startup is less than desired GPU memory utilization"),
        ValueError("Available memory on node 0 (1/24 GiB) on kv cache allocation is less than requested memory for kv"),
        ValueError("To serve at least one request, 3.5 GiB KV cache is needed, which is larger than the available"),
    ],
)
def test_a_load_that_lacks_memory_is_told_apart(error: Exception) -> None:
    assert failures.load_failure(error, SETTINGS).lacks_memory
    assert not failures.load_failure(ValueError("something else"), SETTINGS).lacks_memory


def test_the_setting_that_names_the_model_is_told() -> None:
    settings = EngineSettings(models={"small": ModelOptions("org/model")}).by_name()["small"]
    text = str(failures.load_failure(OSError("org/model is not a valid model identifier"), settings))
    assert "there is no public model small" in text
    assert "Check VLLM_MODELS;" in text


def test_the_hint_is_found_through_causes() -> None:
    error = ValueError("could not load")
    error.__cause__ = OSError("Name or service not known")
    assert "cannot be reached" in str(failures.load_failure(error, SETTINGS))


def test_a_torchvision_that_does_not_fit_is_told_apart() -> None:
    text = str(failures.import_failure(RuntimeError("operator torchvision::nms does not exist")))
    assert "uninstall torchvision" in text


@pytest.mark.parametrize(("error", "fatal"), [(EngineDeadError(), True), (MemoryError(), True), (ValueError(), False)])
def test_only_some_errors_end_the_engine(error: Exception, fatal: bool) -> None:
    assert failures.is_fatal(error) is fatal


def test_a_cache_miss_is_known_by_name() -> None:
    assert failures.is_cache_miss(MultiModalCacheMissError())


def test_frames_of_a_whole_chain_are_emptied() -> None:
    class Weights:
        pass

    kept: list[Any] = []

    def load() -> None:
        weights = Weights()
        kept.append(weakref.ref(weights))
        raise ValueError("inner")

    try:
        try:
            load()
        except ValueError as inner:
            raise RuntimeError("outer") from inner
    except RuntimeError as error:
        failures.forget_frames(error)
        assert kept[0]() is None
