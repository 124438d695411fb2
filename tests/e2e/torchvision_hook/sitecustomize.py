"""Makes a torchvision that was built for CUDA importable beside a torch that was not; Python imports this at its start.

That torchvision describes operators which only its CUDA library would define. Defined by name alone before it is
imported, nothing misses them. vLLM's child processes need it too, so it comes by PYTHONPATH.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing, but defines the operators when torchvision is looked for the first time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leaves the search to the other finders."""
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define("torchvision::nms", boxes)
            torch.library.define("torchvision::qnms", boxes)
        return None


sys.meta_path.insert(0, BeforeTorchvision())
