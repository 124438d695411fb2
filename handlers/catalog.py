"""The table of all tools. A tool is one row here; nothing else lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers import chat, gpu, sessions
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
            "pictures included: send only the new messages next time. Returns the answer as text; finish_reason "
            "'length' means that max_tokens cut it off, 'timeout' that its time was up."
        ),
        arguments=chat.ChatArguments,
        handler=chat.chat_completion,
        result=chat.ChatResult,
        text=lambda result: str(result.text),
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="chat_completion_batch",
        family="chat",
        title="Answer many conversations at once",
        description=(
            "Answers up to 256 separate conversations in one batch of the engine, much faster than one call each: "
            "for example the same question about many pictures. The sampling arguments hold for all. Returns one "
            "entry per conversation in the order given, with an error for each that could not be answered."
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
        arguments=chat.NoArguments,
        handler=chat.model_info,
        result=chat.ModelInfo,
        idempotent=True,
    ),
    Tool(
        name="list_sessions",
        family="chat",
        title="List sessions",
        description="Lists the conversations the server remembers, with their number of messages and pictures.",
        arguments=chat.NoArguments,
        handler=sessions.list_sessions,
        result=sessions.SessionList,
        idempotent=True,
    ),
    Tool(
        name="get_session",
        family="chat",
        title="Show a session",
        description="Shows the messages of one remembered conversation, a page at a time.",
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
        name="get_gpu_status",
        family="gpu",
        title="GPU and memory",
        description=(
            "Tells where the model is (GPU, CPU, or null while none is loaded), how long it has been idle, and the "
            "memory in use, measured now: of each GPU by its driver, and of the server's own processes. Loads nothing. "
            "gpu_memory_allocated_gb is what this server holds on the GPUs, gpu_memory_reserved_gb what is in use "
            "there in all. What cannot be measured is null. A GB has 2^30 bytes."
        ),
        arguments=chat.NoArguments,
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
        arguments=chat.NoArguments,
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
        arguments=chat.NoArguments,
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
        arguments=chat.NoArguments,
        handler=gpu.list_available_models,
        result=gpu.ModelList,
        idempotent=True,
    ),
)


def toolbox(services: Services) -> Toolbox:
    """The tools of the families that the settings pick, over these services."""
    picked = services.settings.server.toolsets
    return Toolbox((tool for tool in TOOLS if not picked or tool.family in picked), services, explain)
