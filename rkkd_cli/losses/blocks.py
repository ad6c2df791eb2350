"""A loss of many rows of logits, computed block by block, in the memory that one block takes."""

from collections.abc import Callable

import torch
from torch import Tensor

from rkkd_cli.losses.checks import check_target, positive
from rkkd_cli.losses.own_gradient import OwnGradient
from rkkd_cli.losses.rows import check_mask, rows_of_logits


def in_blocks(
    loss: Callable[..., Tensor],
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    rows_per_block: int = 64,
    target: Tensor | None = None,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return a loss of logits (…, C), without what it would hold of all rows at once.

    Value and gradient of each block are computed together, and of a block only its gradient is
    kept, in the student's dtype (of float16 in float32). So beside the logits there is their
    gradient, and what the loss takes for one block. The value is that of ``loss``, but for the
    rounding of sums; it can be differentiated once. Losses that compare rows with each other
    compare those of a block: DIST's intra-class term, MLKD's batch and class level, and the ranking
    loss over images.

    Args:
        loss: a loss of :mod:`rkkd_cli.losses` that returns one number, such as
            :func:`kl_divergence`. ``functools.partial`` gives it other settings. One of your own
            has to take ``normalizer``, and ``target`` and ``mask`` if they are given.
        student_logits: s, (…, C). The gradient goes to them only.
        teacher_logits: t, (…, C).
        rows_per_block: rows of C logits that are computed at once, at least 1.
        target: the loss's ``target`` if it takes one, (…), int64.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, a block has no rows, or the loss refuses its arguments.

    """
    rows = rows_of_logits(student_logits, teacher_logits)
    size = int(positive("rows_per_block", rows_per_block))
    of_rows: dict[str, Tensor] = {}
    if target is not None:
        of_rows["target"] = check_target(student_logits, target).flatten()
    if mask is not None:
        of_rows["mask"] = check_mask(student_logits, mask).flatten()
    if normalizer is None:
        normalizer = rows.size if mask is None else of_rows["mask"].sum().clamp(min=1)

    def of_block(student: Tensor, block: slice) -> Tensor:
        others = {name: values[block] for name, values in of_rows.items()}
        return loss(student, rows.teacher[block], **others, normalizer=normalizer)

    wants_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    total: Tensor = _InBlocks.apply(rows.student, of_block, size, wants_gradient)[0]
    return total


class _InBlocks(OwnGradient):
    """Returns the sum over the blocks and its gradient, which is kept for the backward pass."""

    @staticmethod
    def forward(
        student: Tensor,
        of_block: Callable[[Tensor, slice], Tensor],
        size: int,
        wants_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        # Half precision has no numbers as small as a gradient that is divided by many rows.
        dtype = torch.float32 if student.dtype == torch.float16 else student.dtype
        gradient = student.new_empty(student.shape if wants_gradient else 0, dtype=dtype)
        values = []
        for start in range(0, len(student), size):
            block = slice(start, start + size)
            with torch.set_grad_enabled(wants_gradient):
                leaf = student[block].detach().to(dtype).requires_grad_(wants_gradient)
                value = of_block(leaf, block)
            if wants_gradient:
                gradient[block] = torch.autograd.grad(value, leaf)[0]
            values.append(value.detach())
        return torch.stack(values).sum(), gradient
