"""How vLLM loads the code that it has compiled for a model and kept in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def let_compiled_code_load() -> None:
    """Lets vLLM load the code that it has compiled for a CPU.

    On a CPU, vLLM 0.32 compiles a model with torch's own backend, keeps the code, and fails to load it: it calls
    `finalize_loading`, which only the functions of vLLM's backend have. So every start compiles again. A loaded
    function without that method gets one that does nothing.
    """
    import torch

    load = torch.compiler.load_compiled_function
    if getattr(load, "completes", False):
        return

    def load_and_complete(file: Any, **options: Any) -> Any:
        function = load(file, **options)
        compiled = getattr(getattr(function, "_artifacts", None), "compiled_fn", None)
        if compiled is not None and not hasattr(compiled, "finalize_loading"):
            compiled.finalize_loading = lambda config: None
        return function

    load_and_complete.completes = True  # type: ignore[attr-defined]
    torch.compiler.load_compiled_function = load_and_complete


@contextlib.contextmanager
def run_eagerly_without_compiled_code() -> Iterator[None]:
    """Within it, a model that is loaded with `enforce_eager=False` runs without compiled code where none loads.

    vLLM 0.32 compiles the model at its first step then, for a minute or more, and every caller waits.
    """
    from vllm.compilation import decorators

    load = decorators._try_load_aot_compiled_fn

    def load_or_run_eagerly(model: Any, path: str) -> Any:
        return load(model, path) or _forward

    decorators._try_load_aot_compiled_fn = load_or_run_eagerly
    try:
        yield
    finally:
        decorators._try_load_aot_compiled_fn = load


def _forward(model: Any, *arguments: Any, **named: Any) -> Any:
    return model.forward(*arguments, **named)
