"""vLLM-Omni's pipeline of OmniVoice, which stops between two steps when its request is cancelled.

Like those of `pipelines.py`. The registry looks up a pipeline's functions in the pipeline's module, hence the unused
import.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vllm_omni.diffusion.cancellation import check_request_cancellation
from vllm_omni.diffusion.models.omnivoice.pipeline_omnivoice import (
    OmniVoicePipeline,
    get_omnivoice_post_process_func,  # noqa: F401
)


class StoppableOmniVoice(OmniVoicePipeline):
    """OmniVoice; all its steps are in one call of its generator, which asks for the logits once in each."""

    supports_request_cancellation: ClassVar[bool] = True
    dummy_run_num_frames: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        get_logits = self.generator._get_logits

        def get_logits_unless_cancelled(*arguments: Any, **named: Any) -> Any:
            check_request_cancellation()
            return get_logits(*arguments, **named)

        self.generator._get_logits = get_logits_unless_cancelled
