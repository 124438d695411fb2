"""The families images and video of tools."""

from __future__ import annotations

from handlers.media_generation import image_list, image_server, images, jobs, text_video, video
from handlers.model.model import NoArguments
from handlers.resources.media_view import MEDIA_VIEW
from mcp_protocol.tools.toolbox import Annotations, Tool

TOOLS = (
    Tool(
        name="generate_image",
        title="Generate an image",
        description=(
            "Generates an image from a text prompt with the image model of a vLLM-Omni server and saves it as a PNG "
            "file. With image_paths it edits or combines images, with mask_path a part of one, if the model can. "
            "Leave out steps, guidance and size unless the user asks: the defaults suit the model. Returns the "
            "file's path, the parameters and a preview; or status 'running' with a job_id: then use job_status."
        ),
        arguments=images.GenerateImageArguments,
        handler=images.generate_image,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
    Tool(
        name="batch_generate",
        title="Generate several images",
        description=(
            "Generates 1 to 20 images of the same size, one per prompt, and saves them as PNG files. One failure does "
            "not affect the others. Returns one entry per prompt in the given order with file path and seed, and one "
            "overview image with each index; or status 'running' with a batch_id if it takes longer than wait_s or "
            "the call's time limit: then use job_status, or cancel_batch to stop it."
        ),
        arguments=images.BatchGenerateArguments,
        handler=images.batch_generate,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
    Tool(
        name="list_images",
        title="List generated images",
        description=(
            "Lists the images that this server saved, newest first, also from before its last start: path, prompt, "
            "seed, model, size and time. Use it to find an image again, for like of generate_image. If next_cursor is "
            "not null there are more, even when images is empty."
        ),
        arguments=image_list.ListImagesArguments,
        handler=image_list.list_images,
        result=image_list.ImageList,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
        view=MEDIA_VIEW,
    ),
    Tool(
        name="cancel_batch",
        title="Cancel a batch or job",
        description=(
            "Cancels a generation by its batch_id or job_id: running requests are aborted on the server, queued ones "
            "never start. Files saved before are kept and listed."
        ),
        arguments=jobs.CancelArguments,
        handler=jobs.cancel_batch,
        result=jobs.BatchCancelled,
        annotations=Annotations(read_only=False, destructive=True, idempotent=True),
        is_job_control=True,
        bypass_queue=True,
    ),
    Tool(
        name="job_status",
        title="State of a job",
        description=(
            "Returns the progress of a generation by its job_id or batch_id, and after its end the same result, with "
            "files and preview, as the tool that started it. wait_s waits for the end."
        ),
        arguments=jobs.JobStatusArguments,
        handler=jobs.job_status,
        annotations=Annotations(idempotent=True),
        is_job_control=True,
        bypass_queue=True,
    ),
    Tool(
        name="list_jobs",
        title="List jobs",
        description="Lists the running and the recently finished generations with their ids, newest first.",
        arguments=jobs.ListJobsArguments,
        handler=jobs.list_jobs,
        result=jobs.JobList,
        annotations=Annotations(idempotent=True),
        is_job_control=True,
        bypass_queue=True,
    ),
    Tool(
        name="get_model_info",
        title="About the image model",
        description=(
            "Returns which image model the vLLM-Omni server serves, its recommended steps, guidance and sizes, whether "
            "it accepts negative prompts and input images, and the GPU memory it needs. Generates nothing."
        ),
        arguments=NoArguments,
        handler=image_server.get_model_info,
        result=image_server.ImageModelInfo,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="gpu_status",
        title="GPU of the image server",
        description=(
            "Returns the memory of the GPU that generates images and how many images it can generate at once: measured "
            "if the vLLM-Omni server is on this machine, else estimated from the model's profile, as source says. For "
            "the chat model's GPU use get_gpu_status."
        ),
        arguments=NoArguments,
        handler=image_server.gpu_status,
        result=image_server.ImageServerGpu,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="list_presets",
        title="Image sizes",
        description=(
            "Lists the aspect ratios of the image model with their sizes in pixels, and the rules for other sizes."
        ),
        arguments=NoArguments,
        handler=image_server.list_presets,
        result=image_server.Presets,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="server_health",
        title="Health of the image server",
        description=(
            "Returns whether the vLLM-Omni server for images responds, its latency, and which model it serves. Use it "
            "first when a generation fails."
        ),
        arguments=NoArguments,
        handler=image_server.server_health,
        result=image_server.ServerHealth,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="estimate_generation",
        title="Estimate a generation",
        description=(
            "Estimates the time and GPU memory that images would take, without generating any: from earlier "
            "generations of this server, else from the model's profile, as source says."
        ),
        arguments=image_server.EstimateArguments,
        handler=image_server.estimate_generation,
        result=image_server.Estimate,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
    Tool(
        name="generate_video",
        title="Generate a video",
        description=(
            "Generates a short video (MP4) from words, or from an image and words: the image becomes the first frame. "
            "For somebody who talks use process_image_to_video. It takes minutes: set wait_s and poll job_status with "
            "the job_id; cancel_batch stops it. Leave out steps, guidance, size, frames and fps unless the user asks "
            "for them. Returns the file's path, duration, size and seed, and one frame."
        ),
        arguments=text_video.GenerateVideoArguments,
        handler=text_video.generate_video,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
    Tool(
        name="process_image_to_video",
        title="Make an image talk",
        description=(
            "Generates a video (MP4 with audio) in which the person or character in an image speaks: with a recorded "
            "voice (audio_path), or speech_text with a made one. It takes minutes: set wait_s and poll job_status with "
            "the job_id; cancel_batch stops it. Leave out steps, guidance, size and frames unless the user asks for "
            "them. Returns the file's path, duration, size and seed, and one frame."
        ),
        arguments=video.ImageToVideoArguments,
        handler=video.process_image_to_video,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
    Tool(
        name="process_video_to_video",
        title="Give a clip another voice",
        description=(
            "Makes the person in a clip speak with another voice. No model here edits the lips of an existing clip: "
            "the clip's first frame is animated again, and the clip's own motion is lost; tell the user so. "
            "Otherwise like process_image_to_video."
        ),
        arguments=video.VideoToVideoArguments,
        handler=video.process_video_to_video,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
)
