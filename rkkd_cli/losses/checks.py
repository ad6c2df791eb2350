"""What every loss asks of its inputs."""

import math

import torch
from torch import Tensor


def paired_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both (B, C) logits in one dtype of at least float32, the teacher's without gradient.

    Raises ValueError when they are not two floating-point tensors of one shape (B, C), B ≥ 1.
    """
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student and teacher logits must both be (batch, classes); got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    if student_logits.shape[0] == 0:
        raise ValueError("the batch is empty")
    if not (student_logits.is_floating_point() and teacher_logits.is_floating_point()):
        raise ValueError("logits must be floating-point tensors")
    dtype = torch.promote_types(student_logits.dtype, teacher_logits.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return student_logits.to(dtype), teacher_logits.detach().to(dtype)


def positive(name: str, value: float) -> float:
    """Return ``value``; raise ValueError when it is not a finite number greater than 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number greater than 0, not {value}")
    return value
