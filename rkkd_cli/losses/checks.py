"""What the losses require of their inputs."""

import functools
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def paired_batches(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both features (B, …) in one dtype of at least float32, the teacher's detached.

    Their shapes may differ but for B. Raises ValueError unless they are floating-point tensors of
    one batch, each with at least one feature dimension.
    """
    if student.ndim < 2 or teacher.ndim < 2 or student.shape[0] != teacher.shape[0]:
        raise ValueError(
            "student and teacher features must both be (batch, features…) of one batch; got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    return in_one_dtype(student, teacher, "features")


def paired_maps(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Return both feature maps (B, D, H, W) as :func:`paired_batches` does.

    Raises ValueError also if either is not four-dimensional.
    """
    if student_map.ndim != 4 or teacher_map.ndim != 4:
        raise ValueError(
            "student and teacher maps must both be (batch, channels, height, width); got "
            f"{tuple(student_map.shape)} and {tuple(teacher_map.shape)}"
        )
    return paired_batches(student_map, teacher_map)


def paired_same_shape(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both features (B, D, …) as :func:`paired_batches` does.

    Raises ValueError also if their shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            "student and teacher features must have one shape (project or pool them first); got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    return paired_batches(student, teacher)


def in_one_dtype(student: Tensor, teacher: Tensor, noun: str) -> tuple[Tensor, Tensor]:
    """Return both in one dtype of at least float32, the teacher's detached.

    Raises ValueError if either is empty or not floating-point; ``noun`` names them in the sentence.
    """
    if student.numel() == 0 or teacher.numel() == 0:
        raise ValueError("the batch is empty")
    if not (student.is_floating_point() and teacher.is_floating_point()):
        raise ValueError(f"{noun} must be floating-point tensors")
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def check_target(logits: Tensor, target: Tensor) -> Tensor:
    """Return the class numbers (…) of logits (…, C).

    Raises ValueError unless they are int64 numbers, one for each row. That each lies in 0 … C − 1
    is left to the indexing: a check here would wait for a GPU.
    """
    if target.shape != logits.shape[:-1] or target.dtype != torch.int64:
        raise ValueError(
            f"the target must be one int64 class number per image, {tuple(logits.shape[:-1])}; got "
            f"{tuple(target.shape)} of {target.dtype}"
        )
    return target


def positive(name: str, value: float) -> float:
    """Return ``value``. Raises ValueError unless it is a finite number greater than 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number greater than 0, not {value}")
    return value


def without_autocast(loss: Callable[P, R]) -> Callable[P, R]:
    """Disable autocast inside a loss: its matrix products would be computed in half precision.

    At least one argument must be a tensor; the first one tells the device.
    """

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(first.device.type, enabled=False):
            return loss(*args, **kwargs)

    return wrapper
