"""The table of all tools. A tool is one row here; nothing else lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers import chat, gpu, model, sessions, vision
from handlers.errors import explain
from mcp_protocol.tools import Tool, Toolbox

if TYPE_CHECKING:
    from handlers.services import Services

TOOLS = (
    Tool(
        name="chat_completion",
        family="chat",
        title="Chat with the local model",
        description=(
            "Answers a conversation of text and pictures with the vision-language model that runs on this machine. "
            "Use it to describe or compare pictures, read what is on them, or ask anything of a local model. A "
            "message's content is text or a list of parts: text, image_url (http(s), data: or file: URL) or image "
            "(absolute path, or base64 data with mimeType). With a session_id the server remembers the conversation, "
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
    ),
    Tool(
        name="list_available_models",
        family="gpu",
        title="List models",
        description=(
            "Lists the models to choose from: the configured one, the bundled one, those that Hugging Face has "
            "downloaded to this machine, and some worth a download, with the memory each needs and whether this "
            "machine has it (null: not known). Downloads nothing and asks nobody."
        ),
        arguments=model.NoArguments,
        handler=gpu.list_available_models,
        result=gpu.ModelList,
        idempotent=True,
    ),
)


def toolbox(services: Services) -> Toolbox:
    """The tools of the families that the settings pick, over these services."""
    picked = services.settings.server.toolsets
    return Toolbox((tool for tool in TOOLS if not picked or tool.family in picked), services, explain)
