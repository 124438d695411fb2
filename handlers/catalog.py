"""The table of all tools. A tool is one row here; nothing else lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from handlers import (
    chat,
    gpu,
    image_server,
    images,
    jobs,
    model,
    provider_requests,
    provider_validation,
    providers,
    sessions,
    video,
    vision,
)
from handlers.errors import explain
from mcp_protocol.tools import Tool, Toolbox

if TYPE_CHECKING:
    from handlers.services import Services

SESSIONS = ("session_id", "fork_session_id")
"""Arguments that name a conversation, whose turns come one after another."""

ASK_THE_MODEL = ("chat_completion_batch", "analyze_images_with_query", "check_image_relevance", "analyze_single_image")
"""Tools that only read as long as the model runs here: a server of somebody else's may cost money, and sees what is
sent."""

TOOLS = (
    Tool(
        name="chat_completion",
        family="chat",
        title="Chat with the local model",
        description=(
            "Answers a conversation of text and pictures with the vision-language model that runs on this machine. "
            "Use it to describe or compare pictures, read what is on them, or ask anything of a local model. A "
            "message's content is text or a list of parts: text, image_url, or image (absolute path or URL, or base64 "
            "data with mimeType). With a session_id the server remembers the conversation, "
            "pictures included: send only the new messages next time; fork_session goes on in a copy of it. With "
            "response_format the answer is JSON that fits a schema. Returns the answer as text; finish_reason 'length' "
            "means that max_tokens cut it off, 'timeout' that its time was up. With tools the model may ask you to "
            "call functions (finish_reason 'tool_calls'; without any text the calls are the text, as JSON): run them "
            "and send each result as a message of the role tool."
        ),
        arguments=chat.ChatArguments,
        handler=chat.chat_completion,
        result=chat.ChatResult,
        text=chat.text_of,
        read_only=False,
        open_world=True,
        serial_by=SESSIONS,
    ),
    Tool(
        name="chat_completion_batch",
        family="chat",
        title="Answer many conversations at once",
        description=(
            "Answers up to 256 separate conversations in one batch of the engine, much faster than one call each: "
            "for example the same question about many pictures. The sampling arguments and the tools hold for all. "
            "Returns one entry per conversation in the order given, with an error for each that could not be answered."
        ),
        arguments=chat.BatchArguments,
        handler=chat.chat_completion_batch,
        result=chat.BatchResult,
        open_world=True,
    ),
    Tool(
        name="model_info",
        family="chat",
        title="About the model",
        description=(
            "Tells which model the server runs, whether it is loaded, its context length, whether it reads pictures, "
            "the sampling defaults and how many sessions there are. Loads nothing; what is not known yet is null."
        ),
        arguments=model.NoArguments,
        handler=model.model_info,
        result=model.ModelInfo,
        idempotent=True,
        at_once=True,
    ),
    Tool(
        name="list_sessions",
        family="chat",
        title="List sessions",
        description=(
            "Lists the conversations the server remembers, with their number of messages and pictures, a page at a "
            "time: next_offset is the next page's offset."
        ),
        arguments=sessions.ListSessionsArguments,
        handler=sessions.list_sessions,
        result=sessions.SessionList,
        idempotent=True,
        at_once=True,
    ),
    Tool(
        name="get_session",
        family="chat",
        title="Show a session",
        description=(
            "Shows the messages of one remembered conversation, a page at a time: next_offset is the next page's "
            "offset."
        ),
        arguments=sessions.GetSessionArguments,
        handler=sessions.get_session,
        result=sessions.SessionContent,
        idempotent=True,
        at_once=True,
        serial_by=SESSIONS,
    ),
    Tool(
        name="delete_session",
        family="chat",
        title="Delete a session",
        description="Makes the server forget one conversation with its pictures. This cannot be undone.",
        arguments=sessions.SessionArguments,
        handler=sessions.delete_session,
        result=sessions.SessionDeleted,
        read_only=False,
        destructive=True,
        idempotent=True,
        at_once=True,
        serial_by=SESSIONS,
    ),
    Tool(
        name="analyze_images_with_query",
        family="vision",
        title="Analyse pictures with a query",
        description=(
            "Looks at 1 to 64 pictures with a query: first checks which of them are relevant to it, then analyses "
            "those and answers the query over all of them. Use it to search, compare or describe many pictures at "
            "once; it is much faster than one call each. A picture is an absolute path or a file:, data: or http(s) "
            "URL. check_relevance=false analyses every picture. metadata tells the model what is known of each. "
            "Returns one entry per picture in the order given (relevant, probability, analysis, or the error of this "
            "picture alone), and answer: the answer over the relevant ones."
        ),
        arguments=vision.AnalyzeImagesArguments,
        handler=vision.analyze_images_with_query,
        result=vision.AnalyzeImagesResult,
        open_world=True,
    ),
    Tool(
        name="check_image_relevance",
        family="vision",
        title="Check a picture's relevance",
        description=(
            "Tells whether one picture is relevant to a query, and how probable that is, without describing it. Use it "
            "to filter pictures. For several pictures use analyze_images_with_query, which checks them all at once."
        ),
        arguments=vision.RelevanceArguments,
        handler=vision.check_image_relevance,
        result=vision.RelevanceResult,
        idempotent=True,
        open_world=True,
    ),
    Tool(
        name="analyze_single_image",
        family="vision",
        title="Analyse one picture",
        description=(
            "Answers a question about one picture in detail, for example what it shows, what text is on it, or how "
            "many things of a kind there are. Returns the answer as text. To go on talking about the picture use "
            "chat_completion with a session_id."
        ),
        arguments=vision.AnalyzeImageArguments,
        handler=vision.analyze_single_image,
        result=chat.ChatResult,
        text=lambda result: str(result.text),
        open_world=True,
    ),
    Tool(
        name="get_model_status",
        family="vision",
        title="State of the model",
        description=(
            "Tells whether the vision model is loaded, how much memory the server uses, on which device it runs, "
            "whether it reads pictures and how many one prompt holds. Loads nothing; the first analysis does."
        ),
        arguments=model.NoArguments,
        handler=vision.get_model_status,
        result=vision.ModelStatus,
        idempotent=True,
        at_once=True,
    ),
    Tool(
        name="get_gpu_status",
        family="gpu",
        title="GPU and memory",
        description=(
            "Tells where the model is (GPU, CPU, or null while none is loaded), how long it has been idle, and the "
            "memory in use, measured now: of each GPU by its driver, and of the server's own processes. Loads nothing. "
            "gpu_memory_allocated_gb is what this server holds on the GPUs, gpu_memory_reserved_gb what is in use "
            "there in all. What cannot be measured is null. A GB has 2^30 bytes."
        ),
        arguments=model.NoArguments,
        handler=gpu.get_gpu_status,
        result=gpu.GpuStatus,
        at_once=True,
    ),
    Tool(
        name="offload_gpu",
        family="gpu",
        title="Offload the model",
        description=(
            "Moves the model from the GPU into the host's memory, so that other programs can use the GPU. The next "
            "call that needs the model brings it back in seconds; sessions are kept. Needs a GPU; on a CPU it fails, "
            "and release_gpu is what to use."
        ),
        arguments=model.NoArguments,
        handler=gpu.offload_gpu,
        result=gpu.MemoryGivenBack,
        read_only=False,
        idempotent=True,
        exclusive=True,
    ),
    Tool(
        name="release_gpu",
        family="gpu",
        title="Release the model",
        description=(
            "Drops the model and gives all its memory back, on the GPU and of the host; tells the memory measured "
            "before and after. The next call that needs the model loads it again; sessions are kept."
        ),
        arguments=model.NoArguments,
        handler=gpu.release_gpu,
        result=gpu.MemoryGivenBack,
        read_only=False,
        idempotent=True,
        exclusive=True,
    ),
    Tool(
        name="update_gpu_timeout",
        family="gpu",
        title="Set the idle timeout",
        description=(
            "Sets after how many seconds without use the model is offloaded, or released where it cannot be. 0 turns "
            "that off. Holds at once, counted from the last use, until the server ends."
        ),
        arguments=gpu.TimeoutArguments,
        handler=gpu.update_gpu_timeout,
        result=gpu.TimeoutUpdated,
        read_only=False,
        idempotent=True,
        exclusive=True,
    ),
    Tool(
        name="list_available_models",
        family="gpu",
        also_family="video",
        title="List models",
        description=(
            "Lists the models to choose from: the configured one, the bundled one, those that Hugging Face has "
            "downloaded to this machine, and some worth a download, with the memory each needs and whether this "
            "machine has it (null: not known). Downloads nothing. video has the servers of talking video: the "
            "model_types that mean each, and what it serves, asked now."
        ),
        arguments=model.NoArguments,
        handler=gpu.list_available_models,
        result=gpu.ModelList,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="generate_image",
        family="images",
        title="Generate a picture",
        description=(
            "Makes a picture from words with the image model of a vLLM-Omni server, saves it as a PNG file and shows "
            "it. With image_paths it changes or combines pictures instead, where the model can. Leave steps, guidance "
            "and size out unless the user asks for them: the defaults suit the model; list_presets names its sizes. "
            "The same seed and arguments make the same picture. Returns the file's absolute path, the parameters used "
            "and a preview; status 'running' with a job_id when it takes longer than wait_s or the call may: ask "
            "job_status then. For several pictures use batch_generate."
        ),
        arguments=images.GenerateImageArguments,
        handler=images.generate_image,
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="batch_generate",
        family="images",
        title="Generate several pictures",
        description=(
            "Makes 1 to 20 pictures, one from each prompt, all of the same size, and saves them as PNG files. One that "
            "fails does not fail the others. Returns one entry per prompt in the order given, with its file's path and "
            "seed, and one picture that shows them all, each below its index; status 'running' with a batch_id when it "
            "takes longer than wait_s or the call may: job_status tells more then, cancel_batch stops it."
        ),
        arguments=images.BatchGenerateArguments,
        handler=images.batch_generate,
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="cancel_batch",
        family="images",
        also_family="video",
        title="Cancel a batch or job",
        description=(
            "Stops a running generation by its batch_id or job_id: what is being made is broken off on the server, "
            "what waits is never started. Files that were saved before are kept, and listed."
        ),
        arguments=jobs.CancelArguments,
        handler=jobs.cancel_batch,
        result=jobs.BatchCancelled,
        read_only=False,
        destructive=True,
        idempotent=True,
        about_jobs=True,
        at_once=True,
    ),
    Tool(
        name="job_status",
        family="images",
        also_family="video",
        title="State of a job",
        description=(
            "Tells how far a generation is by its job_id or batch_id, and once it has ended returns its result with "
            "files and preview, as the tool that started it would have. wait_s waits for its end."
        ),
        arguments=jobs.JobStatusArguments,
        handler=jobs.job_status,
        idempotent=True,
        about_jobs=True,
        at_once=True,
    ),
    Tool(
        name="list_jobs",
        family="images",
        also_family="video",
        title="List jobs",
        description="Lists the generations that run and those that ended lately, the newest first, with their ids.",
        arguments=jobs.ListJobsArguments,
        handler=jobs.list_jobs,
        result=jobs.JobList,
        idempotent=True,
        about_jobs=True,
        at_once=True,
    ),
    Tool(
        name="get_model_info",
        family="images",
        title="About the image model",
        description=(
            "Tells which image model the vLLM-Omni server serves, the steps, guidance and sizes that suit it, whether "
            "it takes negative prompts and pictures to begin from, and the GPU memory it needs. Makes nothing."
        ),
        arguments=model.NoArguments,
        handler=image_server.get_model_info,
        result=image_server.ImageModelInfo,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="gpu_status",
        family="images",
        title="GPU of the image server",
        description=(
            "Tells how much memory the GPU that makes pictures has and how many it can make at once: measured where "
            "the vLLM-Omni server is on this machine, else estimated from the model's profile; source says which. "
            "For the chat model's GPU use get_gpu_status."
        ),
        arguments=model.NoArguments,
        handler=image_server.gpu_status,
        result=image_server.ImageServerGpu,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="list_presets",
        family="images",
        title="Picture sizes",
        description=(
            "Lists the aspect ratios of the image model with their sizes in pixels, and the rules for other sizes."
        ),
        arguments=model.NoArguments,
        handler=image_server.list_presets,
        result=image_server.Presets,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="server_health",
        family="images",
        title="Health of the image server",
        description=(
            "Tells whether the vLLM-Omni server that makes pictures answers, how quickly, and which model it serves. "
            "Use it first when a generation fails."
        ),
        arguments=model.NoArguments,
        handler=image_server.server_health,
        result=image_server.ServerHealth,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="estimate_generation",
        family="images",
        title="Estimate a generation",
        description=(
            "Estimates how long pictures would take and how much GPU memory, without making any: from what this server "
            "was measured to do before, else from the kind of model; source says which."
        ),
        arguments=image_server.EstimateArguments,
        handler=image_server.estimate_generation,
        result=image_server.Estimate,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="process_image_to_video",
        family="video",
        title="Make a picture talk",
        description=(
            "Makes a video (MP4 with sound) in which the person or character on a picture speaks with a given voice, "
            "with the audio-driven video model of a vLLM-Omni server. It takes minutes: give wait_s, and ask "
            "job_status with the job_id until it is done; cancel_batch stops it. Leave steps, guidance, size and "
            "frames out unless the user asks for them. The file is checked to its last frame before success is "
            "reported. Returns its absolute path, its length, size and seed, and a frame to look at. "
            "list_available_models tells which servers there are."
        ),
        arguments=video.ImageToVideoArguments,
        handler=video.process_image_to_video,
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="process_video_to_video",
        family="video",
        title="Give a clip another voice",
        description=(
            "Makes the person in a clip speak with another voice. No model here changes the lips of an existing clip: "
            "the clip's first frame is animated anew, and the clip's own motion is not kept; tell the user so. "
            "Otherwise as process_image_to_video."
        ),
        arguments=video.VideoToVideoArguments,
        handler=video.process_video_to_video,
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="generate_multimodal_response",
        family="providers",
        title="Ask a model of any provider",
        description=(
            "Answers one prompt with pictures and files, by a model of any provider that is configured: OpenAI, "
            "DashScope, other services of that API, or the engine of this server (local). Use it when the user names a "
            "hosted model or provider; for the model on this machine, and for conversations, use chat_completion. The "
            "provider is found from the model where it is not named; hosted ones may cost money and see what is sent. "
            "Pictures are in image_urls or file_paths; audio and video go to models that take them. Returns the answer "
            "as text; finish_reason 'length' means that max_tokens cut it off, 'timeout' that its time was up. "
            "Remembers nothing."
        ),
        arguments=provider_requests.GenerateArguments,
        handler=providers.generate_multimodal_response,
        result=providers.MultimodalResult,
        text=lambda result: str(result.text),
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="list_available_providers",
        family="providers",
        title="List providers and their models",
        description=(
            "Lists all providers with the models that each has, asked now: whether it is configured (if not, which "
            "variable to set), whether it answers, and what its models take where that is told. Costs nothing."
        ),
        arguments=providers.ListArguments,
        handler=providers.list_available_providers,
        result=providers.ProviderList,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
    Tool(
        name="validate_multimodal_request",
        family="providers",
        title="Check a request to a provider",
        description=(
            "Checks the arguments of generate_multimodal_response before anything is spent: whether the provider is "
            "configured and has the model, whether pictures and files can be read and are taken, their sizes, and "
            "about how many tokens it all has. valid is false where it would fail, with the reasons in errors; no "
            "answer is generated."
        ),
        arguments=provider_validation.ValidateArguments,
        handler=provider_validation.validate_multimodal_request,
        result=provider_validation.Validation,
        idempotent=True,
        open_world=True,
        at_once=True,
    ),
)


def _only_reads(tool: Tool) -> bool:
    """Whether it only reads where the model is somebody else's."""
    return tool.read_only and tool.name not in ASK_THE_MODEL


def toolbox(services: Services) -> Toolbox:
    """The tools of the families that the settings pick, over these services."""
    picked = services.settings.server.toolsets
    tools = [tool for tool in TOOLS if not picked or tool.is_in(picked)]
    if services.settings.engine.base_url is not None:
        tools = [msgspec.structs.replace(tool, read_only=_only_reads(tool)) for tool in tools]
    return Toolbox(tools, services, explain)
