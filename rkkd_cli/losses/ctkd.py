"""Curriculum temperature: a temperature that is trained to make the student's task harder."""

import math
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.errors import unknown_name
from rkkd_cli.losses.checks import positive
from rkkd_cli.losses.divergence import kl_per_image
from rkkd_cli.losses.rows import paired_rows

SCHEDULES = ("cosine", "linear")


def gradient_reversal(x: Tensor, strength: float = 1.0) -> Tensor:
    """Return x unchanged; the backward pass multiplies its gradient by −``strength``.

    CTKD's repository multiplies by λ, which falls from 0 to −1: λ = −strength. Source: Ganin and
    Lempitsky, arXiv 1409.7495.
    """
    reversed_x: Tensor = _GradientReversal.apply(x, strength)
    return reversed_x


class _GradientReversal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strength: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.strength = inputs[1]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * upstream, None


def curriculum_temperature(
    raw: Tensor, strength: float, start: float = 1.0, span: float = 20.0
) -> Tensor:
    """Return the temperature T = start + span · sigmoid(raw); its gradient to ``raw`` is reversed.

    ``raw`` is a trainable parameter, which CTKD initialises to 1. T lies between ``start`` and
    ``start + span``: the repository's ``--t_start 1 --t_end 20`` reaches up to 21. Raises
    ValueError unless ``start`` and ``span`` are greater than 0.
    """
    start, span = positive("start", start), positive("span", span)
    return start + span * torch.sigmoid(gradient_reversal(raw, strength))


def kl_at_temperature(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: Tensor,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return T² · KL(σ(t/T) ‖ σ(s/T)) at a trainable temperature, averaged over the batch, in nats.

    It is :func:`kl_divergence`, but T is a tensor. As in CTKD's repository, T gets a gradient
    through both softmaxes and through the factor T². Of the logits, only the student's get one.

    Args:
        student_logits: s, (…, C).
        teacher_logits: t, (…, C).
        temperature: T > 0, with one element, or one for each row, (…) or (…, 1). Its sign is not
            checked, because that would wait for a GPU.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes do not match.

    Source: Li et al., arXiv 2211.16231.

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    images = student_logits.shape[:-1].numel()
    if temperature.numel() not in (1, images):
        raise ValueError(
            f"the temperature must have one element or one for each of {images} images; "
            f"got {tuple(temperature.shape)}"
        )
    t = temperature if temperature.numel() == 1 else rows.of(temperature, stand_in=1)
    t = t.reshape(-1, 1).to(rows.student.dtype)
    return rows.over(kl_per_image(rows.student, rows.teacher, t).mean(), normalizer)


def reversal_strength(
    epoch: int, start: float = 0.0, end: float = 1.0, epochs: int = 10, schedule: str = "cosine"
) -> float:
    """Return the strength of the gradient reversal in an epoch, from ``start`` to ``end``.

      cosine: start + (end − start) · (1 − cos(π · e/n)) / 2, e = epoch, clipped to 0 … n
      linear: start + (end − start) · e/n, e = epoch, clipped to 0 … n − 1

    The linear schedule stops one step before ``end``, as the repository's LinearDecay does. That
    class also leaves out ``start``, which is 0 in all of its commands.

    Args:
        epoch: e; the repository counts epochs from 1.
        start: the strength at epoch 0.
        end: the strength from epoch n on.
        epochs: n > 0, the length of the curriculum.
        schedule: ``cosine`` or ``linear``.

    Raises:
        ValueError: n is not greater than 0, or the schedule is unknown.

    Source: Li et al., arXiv 2211.16231.

    """
    n = positive("epochs", epochs)
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    if schedule == "linear":
        progress = min(max(epoch, 0), n - 1) / n
    else:
        progress = (1 - math.cos(math.pi * min(max(epoch, 0), n) / n)) / 2
    return start + (end - start) * progress
