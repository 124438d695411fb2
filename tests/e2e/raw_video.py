"""A video as a part and as an array given to raw vLLM, for a process that can import torchvision.

python -m tests.e2e.raw_video FOLDER CLIP ...     prints the texts of both and their prompt tokens, for each clip
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.interface import Control, Conversation, Message, Sampling, TextPart
from engine.local.engine import LocalEngine
from handlers.chat.media_reading import video_part
from media.decoding.frames import VideoFrames, sample_frames
from settings import EngineSettings

MAX_FRAMES = 8
N_TOKENS = 12
PROMPT = "<|im_start|>user:Say<|vision_start|><|video_pad|><|vision_end|><|im_end|><|im_start|>assistant:"


def main() -> None:
    """Answers about each clip in both ways."""
    folder, *clips = sys.argv[1:]
    engine = LocalEngine(EngineSettings(model_name=folder, cpu_kvcache_space_gib=0.125), log_level="ERROR")
    engine.load()
    videos = [sample_frames(Path(clip).read_bytes(), MAX_FRAMES, 1 << 24) for clip in clips]
    made = engine.generate([_conversation(video) for video in videos], Control())
    assert engine._model is not None
    raw = [_raw(engine._model.llm, video) for video in videos]
    answers = [
        [completion.text, text, completion.prompt_tokens, n_tokens]
        for completion, (text, n_tokens) in zip(made, raw, strict=True)
    ]
    status = engine.status()
    print(json.dumps({"answers": answers, "supports": [status.supports_audio, status.supports_video]}))


def _conversation(video: VideoFrames) -> Conversation:
    parts = (TextPart("Say"), video_part(video, MAX_FRAMES))
    return Conversation((Message("user", parts),), Sampling(0.0, N_TOKENS, ignore_eos=True))


def _raw(llm: Any, video: VideoFrames) -> tuple[str, int]:
    import numpy as np
    from vllm import SamplingParams

    metadata = {
        "total_num_frames": video.n_frames,
        "fps": video.fps,
        "duration": video.n_frames / (video.fps or 1),
        "frames_indices": list(video.indices),
        "do_sample_frames": False,
    }
    frames = np.stack([np.asarray(frame) for frame in video.frames])
    prompt = {"prompt": PROMPT, "multi_modal_data": {"video": [(frames, metadata)]}}
    params = SamplingParams(temperature=0, max_tokens=N_TOKENS, ignore_eos=True)
    (output,) = llm.generate([prompt], params, use_tqdm=False)
    return output.outputs[0].text, len(output.prompt_token_ids)


if __name__ == "__main__":
    main()
