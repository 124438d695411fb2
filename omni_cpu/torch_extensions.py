"""Lets torchvision and torchaudio be imported where their compiled halves cannot be loaded.

Beside a torch for CPUs, the wheels of a general package index are builds for CUDA: they ask for libraries that are not
there. The Python halves are enough for vLLM-Omni (resizing pictures, resampling sound), but they want

- torchvision: the declarations of its operators, which its compiled half makes;
- torchaudio: the module `torchaudio._extension`, which fails when its compiled half does.

`scripts/omni-cpu` has every interpreter of its environment import this module, but only where importing the two fails;
with PyTorch's own builds for CPUs it is never used. An operator that is called all the same fails with torch's error.
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
# Those that torchvision 0.28 gives an implementation for shapes alone while it is imported.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align(Tensor input, Tensor rois, {_REGIONS}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool(Tensor input, Tensor rois, {_REGIONS}) -> (Tensor, Tensor)",
    f"ps_roi_align(Tensor input, Tensor rois, {_REGIONS}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool(Tensor input, Tensor rois, {_REGIONS}) -> (Tensor, Tensor)",
)


class Finder(importlib.abc.MetaPathFinder):
    """Acts when one of the two is imported; finds nothing but the stand-in for `torchaudio._extension`."""

    def __init__(self) -> None:
        self._operators: Any = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Declares torchvision's operators before its first line runs; None leaves the finding to others."""
        if fullname == "torchvision" and self._operators is None:
            self._declare_operators()
        if fullname == "torchaudio._extension":
            return importlib.machinery.ModuleSpec(fullname, _NoExtension(), is_package=True)
        return None

    def _declare_operators(self) -> None:
        import torch

        # Kept: with the library object the declarations would go.
        self._operators = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            with contextlib.suppress(RuntimeError):  # declared by somebody else
                self._operators.define(operator)


class _NoExtension(importlib.abc.Loader):
    """Makes a `torchaudio._extension` that says that there is no compiled half."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def unavailable(function: Callable[..., Any]) -> Callable[..., Any]:
            def fail(*_arguments: Any, **_options: Any) -> Any:
                raise RuntimeError(f"{function.__name__} needs torchaudio's compiled half, which is not installed")

            return fail

        names: dict[str, Any] = {
            "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
            "_IS_ALIGN_AVAILABLE": False,
            "_check_cuda_version": lambda: None,
            "fail_if_no_align": unavailable,
        }
        module.__dict__.update(names, __path__=[])


def install() -> None:
    """Puts the finder before all others, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
