"""Pipelines of vLLM-Omni that stop between two denoising steps when their request was cancelled.

vLLM-Omni 0.30 drops the answer of a cancelled request but computes it to its end, which on a CPU holds up the next
request for minutes. It has cooperative cancelling, which these pipelines do not take part in by themselves: a class
says so by `supports_request_cancellation`, and calls `check_request_cancellation` where it may be left.

The registry looks up the functions around a pipeline in the pipeline's module, hence the imports that nobody uses.
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
from vllm_omni.diffusion.models.wan2_2 import pipeline_wan2_2_s2v
from vllm_omni.diffusion.models.wan2_2.pipeline_wan2_2_s2v import get_wan22_s2v_post_process_func  # noqa: F401

Request = Any
NO_PROGRESS_BAR = {"disable": True}
"""A bar for each picture and each clip would fill the log."""


class _StopsAtSchedulerSteps:
    """Looks for a cancelled request after the forward pass of each step."""

    supports_request_cancellation: ClassVar[bool] = True
    _progress_bar_config = NO_PROGRESS_BAR

    def scheduler_step_maybe_with_cfg(self, *arguments: Any, **options: Any) -> Any:
        """One step of the scheduler, unless the request was cancelled."""
        check_request_cancellation()
        return super().scheduler_step_maybe_with_cfg(*arguments, **options)  # type: ignore[misc]


class StoppableFlux2Klein(_StopsAtSchedulerSteps, pipeline_flux2_klein.Flux2KleinPipeline):
    """FLUX.2 klein."""


class StoppableQwenImage(_StopsAtSchedulerSteps, pipeline_qwen_image.QwenImagePipeline):
    """Qwen-Image."""


class StoppableWanS2V(pipeline_wan2_2_s2v.Wan22S2VPipeline):
    """Wan2.2 S2V; it looks for a cancelled request before each step, in every clip of the video."""

    supports_request_cancellation: ClassVar[bool] = True
    _progress_bar_config = NO_PROGRESS_BAR

    def record_denoise_step(self, *arguments: Any, **options: Any) -> None:
        """Notes that a step begins, unless the request was cancelled."""
        check_request_cancellation()
        super().record_denoise_step(*arguments, **options)


def get_wan22_s2v_pre_process_func(od_config: Any) -> Callable[[Request], Request]:
    """vLLM-Omni's preparation of a request, which also takes a video: without an image, its first frame is the image.

    No model here edits the lips of an existing clip. The clip's motion is not kept; its first frame talks.
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
    """The first picture of a video, which is a file's path or, when vLLM-Omni decoded it, that picture already."""
    if isinstance(video, str):
        with av.open(video) as container:
            frame: PIL.Image.Image = next(container.decode(video=0)).to_image()  # type: ignore[no-untyped-call]
            return frame
    return video.convert("RGB")
