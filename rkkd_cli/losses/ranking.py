"""The ranking loss: a differentiable Kendall τ between the teacher's and the student's logits."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rkkd_cli.errors import unknown_name
from rkkd_cli.losses.channels import channel_indices, parse_channels, select_channels
from rkkd_cli.losses.checks import paired_logits, positive
from rkkd_cli.losses.kernels import cpu, cuda, torch_blocks
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES, SURROGATES


def kendall_ranking_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    steepness: float = 100.0,
    surrogate: str = "tanh",
    channels: str = "all",
) -> Tensor:
    """Return the ranking loss, the negative of a smooth Kendall τ, averaged over the batch.

      L = −1/B · Σ_b 2/(C(C−1)) · Σ_{i<j} φ(k(t_i − t_j)) · φ(k(s_i − s_j))

    L lies in [−1, 1]; −1 means that all pairs of classes have the same order, clearly apart. It
    compares raw logits, without a temperature. The gradient goes to the student only.

    Value and gradient are closed forms, computed together; the loss can be differentiated once.
    Memory grows with B·C, on a GPU with B·C²/64. Below float64 φ has an error of 10⁻⁶. So has the
    value, and the gradient has an error of 10⁻⁶ times its largest possible entry, 2k/C (with
    ``tanh_product``, 2k/C times the largest Δt). An image with a logit that is not finite has loss
    NaN.

    Float32 logits use the numba kernel in ``numba_pairs`` on the CPU and the Triton kernel in
    ``triton_tiles`` on a GPU. Other dtypes, and machines without numba or Triton, use PyTorch's
    operations in ``torch_blocks``. On the CPU an image's numbers depend neither on the other images
    nor on the number of threads.

    Args:
        student_logits: s, (B, C) with C ≥ 2.
        teacher_logits: t, (B, C).
        steepness: k > 0. Pairs further apart than about 1/k count as ordered.
        surrogate: φ: ``tanh``, ``softsign`` x/(1 + |x|) or ``arctan`` 2/π · arctan x. Or
            ``tanh_product``, which replaces the product φ · φ by tanh(k·Δt·Δs).
        channels: the classes that take part: ``all``, ``top:SHARE`` or ``bottom:SHARE``, chosen by
            the teacher's logits of each image. At least 2 take part; C above is their number.

    Raises:
        ValueError: the shapes differ, C < 2, k is not greater than 0, or the surrogate or
            ``channels`` is unknown.

    Source: arXiv 2409.17823 (RKKD).

    """
    student, teacher = _checked_pair(student_logits, teacher_logits, steepness, surrogate, channels)
    wants_gradient = torch.is_grad_enabled() and student.requires_grad
    with torch.autocast(student.device.type, enabled=False):
        value: Tensor
        value, _ = _RankingLoss.apply(student, teacher, steepness, surrogate, wants_gradient)
    return value


@torch.no_grad()
def ranking_per_image(
    student_logits: Tensor, teacher_logits: Tensor, steepness: float, surrogate: str, channels: str
) -> Tensor:
    """Return the ranking loss of each image, (B,), without gradient.

    Arguments and errors are those of :func:`kendall_ranking_loss`, which is their mean.
    """
    student, teacher = _checked_pair(student_logits, teacher_logits, steepness, surrogate, channels)
    return _losses_and_gradients(student, teacher, steepness, surrogate, wants_gradient=False)[0]


@torch.no_grad()
def ranking_gradient_per_image(
    student_logits: Tensor, teacher_logits: Tensor, steepness: float, surrogate: str, channels: str
) -> Tensor:
    """Return the gradient of each image's ranking loss by its student logits, (B, C).

    It is B times the gradient of :func:`kendall_ranking_loss`. The arguments and errors are the
    same.
    """
    student, teacher = _checked_pair(student_logits, teacher_logits, steepness, surrogate, channels)
    _, gradient = _losses_and_gradients(student, teacher, steepness, surrogate)
    indices = channel_indices(paired_logits(student_logits, teacher_logits)[1], channels)
    if indices is None:
        return gradient
    return gradient.new_zeros(student_logits.shape).scatter_(1, indices, gradient)


def _checked_pair(
    student_logits: Tensor, teacher_logits: Tensor, steepness: float, surrogate: str, channels: str
) -> tuple[Tensor, Tensor]:
    """Return the logits of the classes that take part. Raises ValueError for wrong settings."""
    student, teacher = paired_logits(student_logits, teacher_logits)
    if student.shape[1] < 2:
        raise ValueError("the ranking loss needs at least 2 classes: one class has no order")
    positive("steepness", steepness)
    if surrogate not in SURROGATES:
        raise unknown_name("surrogate", surrogate, SURROGATES)
    return select_channels(student, teacher, channels)


class KendallRankingLoss(nn.Module):
    """:func:`kendall_ranking_loss` as a module. Raises ValueError for wrong settings at once."""

    def __init__(
        self, steepness: float = 100.0, surrogate: str = "tanh", channels: str = "all"
    ) -> None:
        super().__init__()
        if surrogate not in SURROGATES:
            raise unknown_name("surrogate", surrogate, SURROGATES)
        parse_channels(channels)
        self.steepness = positive("steepness", steepness)
        self.surrogate = surrogate
        self.channels = channels

    @property
    def settings(self) -> tuple[float, str, str]:
        """Steepness, surrogate and channels."""
        return self.steepness, self.surrogate, self.channels

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss of (B, C) logits."""
        return kendall_ranking_loss(student_logits, teacher_logits, *self.settings)

    def extra_repr(self) -> str:
        """Show the settings in the module's repr."""
        return (
            f"steepness={self.steepness}, surrogate={self.surrogate!r}, channels={self.channels!r}"
        )


class _RankingLoss(torch.autograd.Function):
    """Returns the loss and its gradient (B, C), which is kept for the backward pass."""

    @staticmethod
    def forward(
        student: Tensor, teacher: Tensor, k: float, surrogate: str, wants_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        losses, gradients = _losses_and_gradients(student, teacher, k, surrogate, wants_gradient)
        return losses.mean(), gradients / len(student)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return upstream[0] * gradient, None, None, None, None


def _losses_and_gradients(
    s: Tensor, t: Tensor, k: float, surrogate: str, wants_gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the loss of each image, (B,), and its gradient by s, (B, C).

    Without ``wants_gradient`` the gradient may be anything.
    """
    if surrogate in COMPILED_SURROGATES:
        index = COMPILED_SURROGATES.index(surrogate)
        if cpu.supports(s, t):
            return cpu.losses_and_gradients(s, t, k, index)
        if cuda.supports(s, t):
            return cuda.losses_and_gradients(s, t, k, index)
    return torch_blocks.losses_and_gradients(s, t, k, SURROGATES[surrogate], wants_gradient)
