"""What vLLM puts before the prompt of a speech model's decoder."""

from __future__ import annotations

from typing import Any


def keep_decoder_prompts(llm: Any) -> None:
    """Has a model's decoder get its prompts as they are.

    vLLM 0.32 puts <|startoftranscript|> before each prompt that begins with another token. So it does with a prompt
    that begins with <|startofprev|> and the text that was said before, and the model then repeats itself to the end.
    Nothing is put before it where the model's processor says so; all prompts of ours have the token in its place.
    """
    llm.renderer.get_mm_processor().skip_decoder_start_token = True
