"""The gpu family of tools."""

from __future__ import annotations

from handlers.model import available, gpu
from handlers.model.model import ModelArguments, NoArguments
from mcp_protocol.tools.toolbox import Annotations, Tool

TOOLS = (
    Tool(
        name="get_gpu_status",
        title="GPU and memory",
        description=(
            "Returns where the model is (GPU, CPU, or null while none is loaded), how long it has been idle, and the "
            "memory in use now: of each GPU as its driver reports it, and of the server's processes. Loads nothing. "
            "gpu_memory_allocated_gb is this server's memory on the GPUs, gpu_memory_reserved_gb all memory in use on "
            "them. What cannot be measured is null. A GB has 2^30 bytes."
        ),
        arguments=ModelArguments,
        handler=gpu.get_gpu_status,
        result=gpu.GpuStatus,
        bypass_queue=True,
    ),
    Tool(
        name="offload_gpu",
        title="Offload the model",
        description=(
            "Moves the model from the GPU to the host's memory, so that other programs can use the GPU. The next call "
            "that needs the model moves it back in seconds; sessions are kept. Needs a GPU; on a CPU it fails: use "
            "release_gpu there."
        ),
        arguments=gpu.SomeModels,
        handler=gpu.offload_gpu,
        result=gpu.MemoryFreed,
        annotations=Annotations(read_only=False, idempotent=True),
        exclusive=True,
    ),
    Tool(
        name="release_gpu",
        title="Release the model",
        description=(
            "Unloads the model and frees all its memory, on the GPU and on the host; returns the memory measured "
            "before and after. The next call that needs the model loads it again; sessions are kept."
        ),
        arguments=gpu.SomeModels,
        handler=gpu.release_gpu,
        result=gpu.MemoryFreed,
        annotations=Annotations(read_only=False, idempotent=True),
        exclusive=True,
    ),
    Tool(
        name="update_gpu_timeout",
        title="Set the idle timeout",
        description=(
            "Sets after how many seconds without use the model is offloaded, or released where offloading is not "
            "supported. 0 turns this off. Takes effect at once, counted from the last use, until the server ends."
        ),
        arguments=gpu.TimeoutArguments,
        handler=gpu.update_gpu_timeout,
        result=gpu.TimeoutUpdated,
        annotations=Annotations(read_only=False, idempotent=True),
        exclusive=True,
    ),
    Tool(
        name="list_available_models",
        title="List models",
        description=(
            "Lists the models that can be used: the configured ones, the bundled one, those in this machine's Hugging "
            "Face cache, and some suggested downloads, with the memory each needs and whether this machine has it "
            "(null: unknown). Downloads nothing. video lists the video servers, asked now: what each serves, "
            "from what it makes videos (talks: an image and a voice), and the model_types that select it."
        ),
        arguments=NoArguments,
        handler=available.list_available_models,
        result=available.ModelList,
        annotations=Annotations(idempotent=True, open_world=True),
        bypass_queue=True,
    ),
)
