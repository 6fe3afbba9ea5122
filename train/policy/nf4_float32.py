"""A plugin of vLLM: four bits computed in float32, for processors without instructions for bf16.

vllm-bnb-plugin 0.0.3 computes in bf16 whatever vLLM was asked for, and takes the size of a packed
weight from the type that is computed in, which is right for 16 bits only. vLLM finds this module
through the entry point in pyproject.toml and loads it into each of its processes; it changes
nothing where vLLM serves in another type than float32.
"""

from __future__ import annotations

from typing import Any

import torch

VALUES_IN_A_BYTE = 2  # of four bits each


def register() -> None:
    """Called by vLLM. Without the plugin for four bits there is nothing to change."""
    try:
        from vllm_bnb_plugin.quantization import linear
    except ImportError:
        return
    method = linear.BitsAndBytesLinearMethod
    in_bf16 = method._apply_4bit_weight

    def apply(self: Any, layer: Any, x: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if x.dtype != torch.float32:
            return in_bf16(self, layer, x, bias)
        return in_float32(layer.weight, x, bias, linear.apply_bnb_4bit)

    linear.calculate_quant_ratio = lambda dtype: VALUES_IN_A_BYTE
    method._apply_4bit_weight = apply


def in_float32(weight: Any, x: torch.Tensor, bias: Any, multiply: Any) -> torch.Tensor:
    """x [..., in] -> [..., out]. `multiply` writes x times each shard of the weight into `out`."""
    rows = x.reshape(-1, x.shape[-1])
    width = sum(state.shape[0] for state in weight.bnb_quant_state.values())
    out = rows.new_empty(len(rows), width)
    multiply(rows, weight, weight.bnb_shard_offsets, out)
    if bias is not None:
        out += bias
    return out.view(*x.shape[:-1], width)
