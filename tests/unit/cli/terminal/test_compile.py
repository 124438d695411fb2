"""The settings of the command `compile`."""

from __future__ import annotations

from cli.terminal.compile import compiling
from settings import read
from settings.engine import COMPILE_NOW


def test_every_model_is_compiled_whatever_its_own_settings_say() -> None:
    found = read(
        {"VLLM_MODEL_NAME": "a/b", "VLLM_MODELS": '{"small": {"model": "c/d", "compile": "off"}, "large": "e/f"}'}
    )
    assert found.problems == ()
    assert {each.compile for each in compiling(found).engine.by_name().values()} == {COMPILE_NOW}
