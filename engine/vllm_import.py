"""Imports vLLM, once for the process: before the first call that needs it, or with that call."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator

RTLD_LAZY = 1

_lock = threading.Lock()
"""Two threads that import modules with circular imports may each see the other's unfinished ones."""
_failures: list[Exception] = []
"""The failure of an import ahead, until a call gets it."""


def import_vllm() -> None:
    """Imports vLLM and the modules of it that a load needs; waits for an import that is in progress.

    Raises: whatever the import raises, or an import ahead has raised.
    """
    with _lock:
        if _failures:
            raise _failures.pop()
        _import()


def import_ahead() -> bool:
    """Imports vLLM before it is needed and returns whether that succeeds; otherwise `import_vllm` raises the reason."""
    with _lock:
        try:
            _import()
        except Exception as error:
            _failures[:] = [error.with_traceback(None)]  # its frames would stay alive
            return False
    return True


def _import() -> None:
    if "vllm" not in sys.modules:
        _map_torch()
    with _without_collections():
        import vllm
        import vllm.engine.arg_utils
        import vllm.model_executor.layers.quantization

        vllm.LLM  # noqa: B018  it is imported when it is first looked up


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps the garbage collector off.

    The import makes a million objects, which stay. Each full collection would look at all of them, for up to 0.4 s in
    which no other thread runs, and all of them together take a fifth of the import. What the import has made is exempt
    from later collections too.
    """
    was_enabled = gc.isenabled()
    n_modules = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > n_modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


def _map_torch() -> None:
    """Maps torch's largest library without the GIL; the import would hold the GIL for 0.2 s meanwhile.

    Only where torch is built for the CPU alone: others first set up where the libraries of the GPU are found.
    """
    from importlib.util import find_spec

    found = find_spec("torch")
    if found is None or found.origin is None or sys.platform != "linux":
        return
    folder = os.path.join(os.path.dirname(found.origin), "lib")
    with contextlib.suppress(OSError):
        if any(name.startswith(("libtorch_cuda", "libtorch_hip", "libtorch_xpu")) for name in os.listdir(folder)):
            return
        import ctypes

        # ctypes releases the GIL while it calls a function, but not while it opens a library itself. What does not
        # open here is reported by the import.
        ctypes.CDLL(None).dlopen(os.fsencode(os.path.join(folder, "libtorch_cpu.so")), RTLD_LAZY)
