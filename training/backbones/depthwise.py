"""Depthwise convolution whose gradients on the CPU are taken in float32.

oneDNN's bfloat16 gradients of strided and of 5x5 depthwise convolutions fall back to a reference
kernel and take four to thirty times as long as in float32, so an EfficientNet spends most of its
step there. Forward stays in bfloat16; only the gradient changes, to the more exact one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Float32Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], pad: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.pad = stride, pad
        return F.conv2d(x, weight, None, stride, pad, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(), x.float(), weight.float(), None,
            ctx.stride, ctx.pad, (1, 1), False, (0, 0), x.shape[1],
            (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False),
        )  # fmt: skip
        grad_x = None if grad_x is None else grad_x.to(x.dtype)
        return grad_x, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def depthwise_conv2d(
    x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """`conv2d` with one filter a channel: x [n, c, H, W], weight [c, 1, k, k]."""
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        result: Tensor = _Float32Gradient.apply(  # type: ignore[no-untyped-call]
            x.to(dtype), weight.to(dtype), stride, padding
        )
        return result
    return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])
