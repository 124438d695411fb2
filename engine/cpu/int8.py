"""int8 weights on a CPU: a quantization method for vLLM that makes them at the load (written for vLLM 0.32).

The weights load as they are, and each layer is converted when all of its weights are there, so any format of weights
will do and nothing is written to the disk. Weights have one scale per output channel, activations one per token (W8A8,
dynamic). Only the linear layers of the decoder are converted: embeddings, the output head, the routers of experts and
encoders of images and audio keep their type, and so do all layers of models that transcribe.
"""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

log = logging.getLogger("engine")

METHOD = "cpu_int8"
"""The value of vLLM's argument `quantization`."""
MAX_INT8 = 127
SMALLEST_SCALE = 1e-8

_DECODER_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.\d+\.")
_KEPT = re.compile(r"vision|visual|image|audio|speech|encoder|(?:^|\.)(?:vit|gate|router)(?:\.|$)")


def is_converted(layer_name: str) -> bool:
    """Whether the linear layer of this name gets int8 weights."""
    return bool(_DECODER_LAYER.search(layer_name)) and not _KEPT.search(layer_name)


def quantized(weight: Any) -> tuple[Any, Any]:
    """The int8 values of a weight of shape (outputs, inputs), and its scales of shape (outputs, 1) as float32."""
    import torch

    values = weight.float()
    scale = values.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST_SCALE) / MAX_INT8
    return (values / scale).round().clamp(-MAX_INT8, MAX_INT8).to(torch.int8), scale


@functools.cache
def register() -> None:
    """Makes the method known to vLLM, once."""
    import torch
    from vllm.config import get_current_vllm_config_or_none
    from vllm.model_executor.kernels.linear import init_int8_linear_kernel
    from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
    from vllm.model_executor.layers.quantization import register_quantization_config
    from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase

    class Int8LinearMethod(UnquantizedLinearMethod):  # type: ignore[misc]
        """A linear layer whose weights become int8; one that vLLM's int8 kernel does not take stays as it is."""

        kernel: Any = None

        def create_weights(self, layer: Any, *, output_partition_sizes: list[int], **attributes: Any) -> None:
            super().create_weights(layer, output_partition_sizes=output_partition_sizes, **attributes)
            layer.logical_widths = output_partition_sizes  # the kernel asks whether layers are fused

        def process_weights_after_loading(self, layer: Any) -> None:
            if getattr(layer, "_cpu_skip_gemm_dispatch", False):  # attention reads these weights itself
                super().process_weights_after_loading(layer)
                return
            weight = layer.weight
            try:
                kernel = init_int8_linear_kernel(True, False, True, METHOD)
                values, scale = quantized(weight.data)
                layer.weight = torch.nn.Parameter(values, requires_grad=False)
                layer.register_parameter("weight_scale", torch.nn.Parameter(scale, requires_grad=False))
                for name in ("input_scale", "input_zero_point", "azp_adj"):
                    layer.register_parameter(name, None)
                kernel.process_weights_after_loading(layer)
            except Exception as error:
                log.warning("A layer keeps its weights, since they cannot become int8: %s", error)
                layer.weight = weight
                super().process_weights_after_loading(layer)
            else:
                self.kernel = kernel
                if layer.weight is None:  # the kernel has a copy; LoRA asks the weight for its device
                    layer.weight = torch.nn.Parameter(torch.empty(0, dtype=torch.int8), requires_grad=False)

        def apply(self, layer: Any, x: Any, bias: Any = None) -> Any:
            if self.kernel is None:
                return super().apply(layer, x, bias)
            return self.kernel.apply_weights(layer, x, bias)

    @register_quantization_config(METHOD)
    class Int8Config(QuantizationConfig):  # type: ignore[misc]
        """Has no values: everything follows from the model."""

        def get_name(self) -> str:
            return METHOD

        def get_supported_act_dtypes(self) -> list[Any]:
            return [torch.float32, torch.bfloat16, torch.float16]

        @classmethod
        def get_min_capability(cls) -> int:
            return 0

        @staticmethod
        def get_config_filenames() -> list[str]:
            return []

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Int8Config:
            return cls()

        def get_quant_method(self, layer: Any, prefix: str) -> QuantizeMethodBase | None:
            if not isinstance(layer, LinearBase):
                return None
            config = get_current_vllm_config_or_none()
            has_encoder = config is not None and config.model_config.is_encoder_decoder
            return Int8LinearMethod() if is_converted(prefix) and not has_encoder else UnquantizedLinearMethod()
