"""The backward pass of losses that compute their gradient with their value."""

from typing import Any, Never

import torch
from torch import Tensor


def scaled_gradient(upstream: Tensor | None, gradient: Tensor, student: Tensor) -> Tensor | None:
    """Return the gradient by the student's logits, times that of the loss.

    With ``create_graph`` its derivative by these logits would be asked for, which is not known: it
    raises RuntimeError in place of counting as 0.
    """
    if upstream is None:
        return None
    if torch.is_grad_enabled():
        gradient = _DifferentiatedOnce.apply(gradient, student)
    return upstream * gradient


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
