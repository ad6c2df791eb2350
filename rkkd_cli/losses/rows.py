"""The rows of logits that a loss is of: (…, C) as (N, C), without those that a mask leaves out."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import in_one_dtype, positive


class Rows(NamedTuple):
    """The rows of both logits that count, (N, C), the teacher's detached.

    ``size`` is N. Where a mask keeps no row, one of equal logits stands in, and ``size`` is 0:
    then :meth:`over` makes of any loss a 0 without a gradient. ``kept`` are the rows' numbers among
    all, and None without a mask.
    """

    student: Tensor
    teacher: Tensor
    size: int
    kept: Tensor | None = None

    def over(self, mean: Tensor, normalizer: float | Tensor | None) -> Tensor:
        """Return the mean over the N rows as it is, or times N / ``normalizer``.

        Raises ValueError for a number that is not greater than 0, or a tensor of several.
        """
        if isinstance(normalizer, Tensor):
            if normalizer.ndim:
                raise ValueError(
                    f"normalizer must be one number, or a tensor of one without dimensions; got "
                    f"{tuple(normalizer.shape)}"
                )
        elif normalizer is not None and self.size:
            positive("normalizer", normalizer)
        if self.size == 0:
            return mean * 0
        return mean if normalizer is None else mean * self.size / normalizer

    def of(self, values: Tensor, stand_in: float = 0) -> Tensor:
        """Return the values (N,) of these rows, of those of all rows, in any shape."""
        return _kept(values.reshape(-1, 1), self.kept, stand_in)[:, 0]

    def in_one_dtype(self) -> "Rows":
        """Return the rows in one dtype of at least float32."""
        student, teacher = in_one_dtype(self.student, self.teacher, "logits")
        return self._replace(student=student, teacher=teacher)


def rows_of_logits(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None
) -> Rows:
    """Return the rows of logits (…, C) that ``mask`` (…) keeps, in the dtypes that they have.

    Rows that are left out are read nowhere, so they may hold anything, and their gradient is 0. How
    many there are is asked of the mask: a GPU is waited for, and a CUDA graph cannot capture it.
    Without a mask nothing is copied or waited for.

    Raises ValueError unless the logits are two floating-point tensors of one shape (…, C) that are
    not empty, and the mask a bool for each of their rows.
    """
    if student_logits.ndim < 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student and teacher logits must both be (batch, classes) or (…, classes); got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    if student_logits.numel() == 0:
        raise ValueError("the batch is empty")
    if not (student_logits.is_floating_point() and teacher_logits.is_floating_point()):
        raise ValueError("logits must be floating-point tensors")
    student, teacher = student_logits.flatten(0, -2), teacher_logits.detach().flatten(0, -2)
    if mask is None:
        return Rows(student, teacher, len(student))
    kept = check_mask(student_logits, mask).flatten().nonzero()[:, 0]
    return Rows(_kept(student, kept), _kept(teacher, kept), len(kept), kept)


def paired_rows(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Rows:
    """Return what :func:`rows_of_logits` does, in one dtype of at least float32."""
    return rows_of_logits(student_logits, teacher_logits, mask).in_one_dtype()


def check_mask(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mask (…) of logits (…, C). Raises ValueError unless it is a bool for each row."""
    if mask.shape != logits.shape[:-1] or mask.dtype != torch.bool:
        raise ValueError(
            f"the mask must be one bool per row of logits, {tuple(logits.shape[:-1])}; got "
            f"{tuple(mask.shape)} of {mask.dtype}"
        )
    return mask


def _kept(rows: Tensor, kept: Tensor | None, stand_in: float = 0) -> Tensor:
    """Return the rows (N, D) of these numbers; of none, one that is filled with ``stand_in``."""
    if kept is None:
        return rows
    chosen = rows.index_select(0, kept)
    return chosen if len(kept) else F.pad(chosen, (0, 0, 0, 1), value=stand_in)
