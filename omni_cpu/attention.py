"""torch's attention on the CPU.

vLLM-Omni's class computes the same, but dispatches to a method per GPU vendor and rejects unknown platforms.
"""

from __future__ import annotations

import torch
from vllm_omni.diffusion.attention.backends.abstract import AttentionMetadata
from vllm_omni.diffusion.attention.backends.sdpa import SDPABackend, SDPAImpl


class CpuAttention(SDPAImpl):
    """Attention by `torch.nn.functional.scaled_dot_product_attention`."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_metadata: AttentionMetadata | None = None,
    ) -> torch.Tensor:
        """Computes attention; a mask over the keys is broadcast over the queries, as on CUDA."""
        return self._forward_impl(query, key, value, attn_metadata, mask_mode="broadcast_k")


class CpuAttentionBackend(SDPABackend):
    """The backend that provides the class above."""

    @staticmethod
    def get_impl_cls() -> type[CpuAttention]:
        """The attention class."""
        return CpuAttention


# Layers that pack several sequences into one ask for vLLM-Omni's own class by name, not for the platform's.
SDPAImpl.forward = CpuAttention.forward
