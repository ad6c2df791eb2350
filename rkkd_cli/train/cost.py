"""What a student costs when it is used: parameters and multiply-adds, and of these the projector's.

Counted by torch's FlopCounterMode, two operations a multiply-add, on one blank image. BatchNorm,
activations and pooling are not counted, as is usual.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rkkd_cli.models import Classifier, count_parameters
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.metrics.evaluate import evaluating
from rkkd_cli.train.teacher.model import Teacher

Cost = dict[str, Any]


def cost_of(arm: ArmOnStream, teacher: Teacher) -> Cost:
    """Return the arm's numbers.

    ``parameters`` are the student's own, ``projector_parameters`` those that its method adds for
    good, and ``training_parameters`` those that are thrown away after the training. ``macs`` are
    the multiply-adds of one image through student, projector and classifier.
    """
    method, size = arm.objective.method, (teacher.in_channels, *teacher.image_size)
    projector = method.inference_projector()
    added = 0 if projector is None else count_parameters(projector)
    student_macs, projector_macs = _multiply_adds(arm.student, size, projector)
    return {
        "parameters": count_parameters(arm.student) - added,
        "macs": student_macs,
        "projector_parameters": added,
        "projector_macs": projector_macs,
        "training_parameters": count_parameters(method),
    }


def _multiply_adds(
    student: Classifier, size: tuple[int, ...], projector: torch.nn.Module | None
) -> tuple[int, int]:
    """Return the multiply-adds of one image, and of these the projector's."""
    device = next(student.parameters()).device
    names = [name for name, module in student.named_modules() if module is projector]
    with evaluating(student), FlopCounterMode(display=False) as counter:
        student(torch.zeros(1, *size, device=device))
    by_module = counter.get_flop_counts()
    inside = by_module.get(f"{type(student).__name__}.{names[0]}", {}) if names else {}
    return counter.get_total_flops() // 2, sum(inside.values()) // 2


def costs_of(arms: Sequence[ArmOnStream], teacher: Teacher) -> dict[str, Cost]:
    """Return the cost of each arm; arms of one student and method are counted once."""
    counted: dict[object, Cost] = {}
    costs = {}
    for arm in arms:
        key = arm.experiment.student.model, arm.experiment.method.model_dump_json()
        if key not in counted:
            counted[key] = cost_of(arm, teacher)
        costs[arm.name] = counted[key]
    return costs
