"""`python -m tests.e2e.whisper_reference MODEL WAV`: what transformers hears in English speech, as JSON.

It hears long speech window by window, each beginning where the segments of the one before ended (return_timestamps).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Writes the text and the seconds that it took."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    from media.decoding.audio import decode_speech

    folder, path = sys.argv[1:]
    samples, _ = decode_speech(Path(path).read_bytes(), 3_600)
    data = bytearray(samples.n_bytes)
    samples.write(memoryview(data))
    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    inputs = processor(
        np.frombuffer(data, "<f4"), sampling_rate=16_000, return_tensors="pt", truncation=False, padding="longest",
        return_attention_mask=True,
    )  # fmt: skip
    model.generation_config.lang_to_id = {"<|en|>": processor.tokenizer.convert_tokens_to_ids("<|en|>")}
    began_s = time.monotonic()
    ids = model.generate(**inputs, return_timestamps=True, language="en", task="transcribe")
    text = processor.batch_decode(ids, skip_special_tokens=True)[0]
    json.dump({"text": text, "seconds": time.monotonic() - began_s}, sys.stdout)


if __name__ == "__main__":
    main()
