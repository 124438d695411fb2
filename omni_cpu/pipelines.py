"""vLLM-Omni pipelines that stop between two denoising steps when their request is cancelled.

vLLM-Omni 0.30 drops the response of a cancelled request but finishes its computation, which on a CPU delays the next
request by minutes. Its pipelines do not use its cooperative cancelling: a class must set
`supports_request_cancellation` and call `check_request_cancellation` where it can stop.

The registry looks up a pipeline's functions in the pipeline's module, hence the unused imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import av
import PIL.Image
from vllm_omni.diffusion.cancellation import check_request_cancellation
from vllm_omni.diffusion.models.flux2_klein import pipeline_flux2_klein
from vllm_omni.diffusion.models.flux2_klein.pipeline_flux2_klein import get_flux2_klein_post_process_func  # noqa: F401
from vllm_omni.diffusion.models.qwen_image import pipeline_qwen_image
from vllm_omni.diffusion.models.qwen_image.pipeline_qwen_image import get_qwen_image_post_process_func  # noqa: F401
from vllm_omni.diffusion.models.wan2_2 import pipeline_wan2_2, pipeline_wan2_2_i2v, pipeline_wan2_2_s2v
from vllm_omni.diffusion.models.wan2_2.pipeline_wan2_2 import (  # noqa: F401
    get_wan22_post_process_func,
    get_wan22_pre_process_func,
)
from vllm_omni.diffusion.models.wan2_2.pipeline_wan2_2_i2v import (  # noqa: F401
    get_wan22_i2v_post_process_func,
    get_wan22_i2v_pre_process_func,
)
from vllm_omni.diffusion.models.wan2_2.pipeline_wan2_2_s2v import get_wan22_s2v_post_process_func  # noqa: F401

Request = Any
NO_PROGRESS_BAR = {"disable": True}
"""Progress bars would fill the log."""


class OnCpu:
    """What all of them have in common."""

    supports_request_cancellation: ClassVar[bool] = True
    dummy_run_num_frames: ClassVar[int] = 0
    """No warm-up with an image of 512 × 512 pixels: nothing is compiled here, and without AVX-512 it takes minutes."""
    _progress_bar_config = NO_PROGRESS_BAR


class _StopsAtSchedulerSteps(OnCpu):
    """Checks for cancellation after the forward pass of each step."""

    def scheduler_step_maybe_with_cfg(self, *arguments: Any, **options: Any) -> Any:
        """Runs a scheduler step, unless the request was cancelled."""
        check_request_cancellation()
        return super().scheduler_step_maybe_with_cfg(*arguments, **options)  # type: ignore[misc]


class _StopsAtRecordedSteps(OnCpu):
    """Checks for cancellation before each step."""

    def record_denoise_step(self, *arguments: Any, **options: Any) -> None:
        """Records the start of a step, unless the request was cancelled."""
        check_request_cancellation()
        super().record_denoise_step(*arguments, **options)  # type: ignore[misc]


class StoppableFlux2Klein(_StopsAtSchedulerSteps, pipeline_flux2_klein.Flux2KleinPipeline):
    """FLUX.2 klein."""


class StoppableQwenImage(_StopsAtSchedulerSteps, pipeline_qwen_image.QwenImagePipeline):
    """Qwen-Image."""


class StoppableWanS2V(_StopsAtRecordedSteps, pipeline_wan2_2_s2v.Wan22S2VPipeline):
    """Wan2.2 S2V; it stops in any clip of the video."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # vLLM-Omni 0.30 asks the transformer for its type, which has none to tell, and then takes bfloat16.
        self.transformer.dtype = self.vae.dtype


class StoppableWan(_StopsAtRecordedSteps, pipeline_wan2_2.Wan22Pipeline):
    """Wan2.2 T2V and TI2V."""


class StoppableWanI2V(_StopsAtRecordedSteps, pipeline_wan2_2_i2v.Wan22I2VPipeline):
    """Wan2.2 I2V."""


def get_wan22_s2v_pre_process_func(od_config: Any) -> Callable[[Request], Request]:
    """vLLM-Omni's preprocessing of a request, which also accepts a video: its first frame is used as the image.

    No model here changes the lips in an existing clip: the clip's motion is lost, and its first frame talks.
    """
    prepare = pipeline_wan2_2_s2v.get_wan22_s2v_pre_process_func(od_config)

    def prepare_with_first_frame(request: Request) -> Request:
        if isinstance(request.prompt, dict):
            media = request.prompt.get("multi_modal_data") or {}
            if media.get("image") is None and media.get("video"):
                media["image"] = _first_frame(media["video"][0])
        return prepare(request)

    return prepare_with_first_frame


def _first_frame(video: str | PIL.Image.Image) -> PIL.Image.Image:
    """The first frame of a video, given as a path or as the image that vLLM-Omni has decoded."""
    if isinstance(video, str):
        with av.open(video) as container:
            frame: PIL.Image.Image = next(container.decode(video=0)).to_image()  # type: ignore[no-untyped-call]
            return frame
    return video.convert("RGB")
