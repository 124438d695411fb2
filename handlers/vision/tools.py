"""The vision family of tools."""

from __future__ import annotations

from handlers.chat import chat
from handlers.model import model
from handlers.resources.media_view import MEDIA_VIEW
from handlers.vision import video_analysis, video_job, vision
from mcp_protocol.tools.toolbox import Annotations, Tool

TOOLS = (
    Tool(
        name="analyze_images_with_query",
        title="Analyse images with a query",
        description=(
            "Checks which of 1 to 64 images are relevant to a query, analyses the relevant ones, and answers the query "
            "over all of them. Use it to search, compare or describe many images; it is much faster than one call per "
            "image. Returns one entry per image in the given order (relevant, probability, analysis, or its error), "
            "and answer: the overall answer."
        ),
        arguments=vision.AnalyzeImagesArguments,
        handler=vision.analyze_images_with_query,
        result=vision.AnalyzeImagesResult,
        annotations=Annotations(open_world=True),
        view=MEDIA_VIEW,
    ),
    Tool(
        name="check_image_relevance",
        title="Check an image's relevance",
        description=(
            "Returns whether one image is relevant to a query, with the probability, without describing the image. Use "
            "it to filter images. For several images use analyze_images_with_query, which checks them all at once."
        ),
        arguments=vision.RelevanceArguments,
        handler=vision.check_image_relevance,
        result=vision.RelevanceResult,
        annotations=Annotations(idempotent=True, open_world=True),
    ),
    Tool(
        name="analyze_single_image",
        title="Analyse one image",
        description=(
            "Answers a question about one image in detail, for example what it shows, what text is in it, or how many "
            "objects of a kind there are. Returns the reply as text. To continue a conversation about the image use "
            "chat_completion with a session_id."
        ),
        arguments=vision.AnalyzeImageArguments,
        handler=vision.analyze_single_image,
        result=chat.ChatResult,
        text=chat.text_of,
        annotations=Annotations(open_world=True),
    ),
    Tool(
        name="analyze_video",
        title="Analyse a video",
        description=(
            "Answers a query about a video from frames spread evenly over it, and returns when the query's subject is "
            "to be seen: found, a list of spans in seconds, exact to sampling_step_s. To look closer, give start_s and "
            "end_s, or more max_frames. per_frame: true also describes each frame, include_speech: true adds what is "
            "said in it, with its times."
        ),
        arguments=video_analysis.AnalyzeVideoArguments,
        handler=video_analysis.analyze_video,
        result=video_job.AnalyzeVideoResult,
        text=video_analysis.text_of,
        annotations=Annotations(open_world=True),
        task_support="optional",
    ),
    Tool(
        name="get_model_status",
        title="State of the model",
        description=(
            "Returns whether the vision model is loaded, how much memory the server uses, the device, whether the "
            "model accepts images and how many per prompt. Loads nothing; the first analysis loads the model."
        ),
        arguments=model.ModelArguments,
        handler=vision.get_model_status,
        result=vision.ModelStatus,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
    ),
)
