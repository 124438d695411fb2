"""Makes torchvision and torchaudio importable when their compiled libraries cannot be loaded.

The wheels of a general package index are CUDA builds, which need libraries that a CPU build of torch does not have.
Their Python code is enough for vLLM-Omni (resizing images, resampling audio), but its import needs

- torchvision: the declarations of its operators, normally made by its compiled library;
- torchaudio: the module `torchaudio._extension`, which fails without its compiled library.

`scripts/omni-cpu` makes its environment's interpreters import this module only if importing the two packages fails; it
is not used with PyTorch's CPU builds. Calling an operator fails with torch's error.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_REGIONS = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
# The operators for which torchvision 0.28 registers a shape function during its import.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align(Tensor input, Tensor rois, {_REGIONS}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool(Tensor input, Tensor rois, {_REGIONS}) -> (Tensor, Tensor)",
    f"ps_roi_align(Tensor input, Tensor rois, {_REGIONS}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool(Tensor input, Tensor rois, {_REGIONS}) -> (Tensor, Tensor)",
)


class Finder(importlib.abc.MetaPathFinder):
    """Declares torchvision's operators, and provides a replacement of `torchaudio._extension`."""

    def __init__(self) -> None:
        self._operators: Any = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Declares the operators before torchvision is imported; `None` leaves the module to other finders."""
        if fullname == "torchvision" and self._operators is None:
            self._declare_operators()
        if fullname == "torchaudio._extension":
            return importlib.machinery.ModuleSpec(fullname, _NoExtension(), is_package=True)
        return None

    def _declare_operators(self) -> None:
        import torch

        # Kept: the declarations are removed with the library object.
        self._operators = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            with contextlib.suppress(RuntimeError):  # already declared
                self._operators.define(operator)


class _NoExtension(importlib.abc.Loader):
    """Creates a `torchaudio._extension` that reports a missing compiled library."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def unavailable(function: Callable[..., Any]) -> Callable[..., Any]:
            def fail(*_arguments: Any, **_options: Any) -> Any:
                raise RuntimeError(f"{function.__name__} needs torchaudio's compiled library, which cannot be loaded")

            return fail

        names: dict[str, Any] = {
            "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
            "_IS_ALIGN_AVAILABLE": False,
            "_check_cuda_version": lambda: None,
            "fail_if_no_align": unavailable,
        }
        module.__dict__.update(names, __path__=[])


def install() -> None:
    """Installs the finder before all others, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
