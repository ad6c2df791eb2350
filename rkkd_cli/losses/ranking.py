"""The ranking loss: a differentiable Kendall τ between the teacher's and the student's logits."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rkkd_cli.errors import unknown_name
from rkkd_cli.losses.channels import chosen_channels, parse_channels, select_channels
from rkkd_cli.losses.checks import paired_logits, positive
from rkkd_cli.losses.kernels import cpu, cuda, torch_blocks
from rkkd_cli.losses.surrogates import COMPILED, SURROGATES


def kendall_ranking_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    steepness: float = 100.0,
    surrogate: str = "tanh",
    channels: str = "all",
) -> Tensor:
    """Return the ranking loss, the negative of a smooth Kendall τ, in [−1, 1].

    L = −1/B · Σ_b 2/(C(C−1)) · Σ_{i<j} φ(k(t_i − t_j)) · φ(k(s_i − s_j))

    −1 means that all pairs of classes stand in the same order, clearly apart. Raw logits are
    compared, without a temperature; the gradient goes to the student only. Value and gradient
    are closed forms, computed together: memory grows with B·C, on a GPU with B·C²/64. Below
    float64 φ is accurate to 10⁻⁶: the value to as much, and the gradient to 10⁻⁶·2k/C, where 2k/C
    is the most that one channel can have (with ``tanh_product``: times the largest Δt). A logit
    that is not finite makes its image's loss NaN. Differentiable once.

    Float32 logits on the CPU take the compiled loop of ``numba_pairs``, on a GPU the Triton kernel
    of ``triton_tiles``; everything else, or where numba or Triton is missing, PyTorch's operations
    in ``torch_blocks``. On the CPU an image's numbers do not depend on the other images, nor on
    the number of threads.

    Args:
        student_logits: s, (B, C) with C ≥ 2.
        teacher_logits: t, (B, C).
        steepness: k > 0. Pairs further apart than about 1/k count as ordered.
        surrogate: φ, one of ``tanh``, ``softsign`` x/(1+|x|), ``arctan`` 2/π·arctan x; or
            ``tanh_product``, which replaces the product of the φ by tanh(k·Δt·Δs).
        channels: ``all``, ``top:SHARE`` or ``bottom:SHARE``: the classes that take part, by the
            teacher's logits in each image (at least 2; C above is then their number).

    Raises:
        ValueError: shapes differ, C < 2, k ≤ 0, or an unknown surrogate or channel choice.

    Source: arXiv 2409.17823 (RKKD).

    """
    student, teacher = _prepared(student_logits, teacher_logits, steepness, surrogate, channels)
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

    Arguments and errors as of :func:`kendall_ranking_loss`, which is the mean.
    """
    student, teacher = _prepared(student_logits, teacher_logits, steepness, surrogate, channels)
    return _values_and_gradients(student, teacher, steepness, surrogate, wants_gradient=False)[0]


@torch.no_grad()
def ranking_gradient_per_image(
    student_logits: Tensor, teacher_logits: Tensor, steepness: float, surrogate: str, channels: str
) -> Tensor:
    """Return the gradient of each image's ranking loss by its own logits, (B, C).

    It is B times that of :func:`kendall_ranking_loss`, whose arguments and errors it has.
    """
    student, teacher = _prepared(student_logits, teacher_logits, steepness, surrogate, channels)
    _, gradient = _values_and_gradients(student, teacher, steepness, surrogate)
    index = chosen_channels(paired_logits(student_logits, teacher_logits)[1], channels)
    if index is None:
        return gradient
    return gradient.new_zeros(student_logits.shape).scatter_(1, index, gradient)


def _prepared(
    student_logits: Tensor, teacher_logits: Tensor, steepness: float, surrogate: str, channels: str
) -> tuple[Tensor, Tensor]:
    """Return the logits of the channels that take part, all settings checked. Raises ValueError."""
    student, teacher = paired_logits(student_logits, teacher_logits)
    if student.shape[1] < 2:
        raise ValueError("the ranking loss needs at least 2 classes: one class has no order")
    positive("steepness", steepness)
    if surrogate not in SURROGATES:
        raise unknown_name("surrogate", surrogate, SURROGATES)
    return select_channels(student, teacher, channels)


class KendallRankingLoss(nn.Module):
    """:func:`kendall_ranking_loss` as a module, its settings checked when it is made."""

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
    """Returns the loss and, to keep until the backward pass, its (B, C) gradient."""

    @staticmethod
    def forward(
        student: Tensor, teacher: Tensor, k: float, surrogate: str, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        values, gradient = _values_and_gradients(student, teacher, k, surrogate, with_gradient)
        return values.mean(), gradient / len(student)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return upstream[0] * gradient, None, None, None, None


def _values_and_gradients(
    s: Tensor, t: Tensor, k: float, surrogate: str, wants_gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the loss of each image, (B,), and its gradient by s, (B, C).

    The gradient means nothing unless it is wanted.
    """
    if surrogate in COMPILED and cpu.fits(s, t):
        return cpu.values_and_gradients(s, t, k, COMPILED.index(surrogate))
    if surrogate in COMPILED and cuda.fits(s, t):
        return cuda.values_and_gradients(s, t, k, COMPILED.index(surrogate))
    return torch_blocks.values_and_gradients(s, t, k, SURROGATES[surrogate], wants_gradient)
