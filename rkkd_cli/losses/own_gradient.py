"""Losses that compute their gradient with their value, and keep it for the backward pass."""

from typing import Any, Never

import torch
from torch import Tensor


class OwnGradient(torch.autograd.Function):
    """Its forward pass returns a loss and the gradient by the student's logits, the first input."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep the gradient, and the logits that it is by."""
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # else zeros as large as the gradient stand for its own
        ctx.save_for_backward(output[1], inputs[0])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradient times that of the loss. A derivative of it raises RuntimeError."""
        gradient, student = ctx.saved_tensors
        others = [None] * (len(ctx.needs_input_grad) - 1)
        if upstream[0] is None:
            return None, *others
        if torch.is_grad_enabled():  # with create_graph: its derivative would count as 0
            gradient = _DifferentiatedOnce.apply(gradient, student)
        return upstream[0] * gradient, *others


class _DifferentiatedOnce(torch.autograd.Function):
    """Returns a gradient that cannot be differentiated by the logits that it is by."""

    @staticmethod
    def forward(gradient: Tensor, student: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Never:
        raise RuntimeError(
            "this loss can be differentiated once: its gradient is a closed form without a "
            "derivative of its own"
        )
