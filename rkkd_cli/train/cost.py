"""Parameters and multiply-adds of a student at inference, and the projector's share of them.

Counted by torch's FlopCounterMode, two operations per multiply-add, on one blank image. As usual,
BatchNorm, activations and pooling are not counted.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rkkd_cli.models import count_parameters
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.train.arm import ArmOnStream

Cost = dict[str, Any]


def inference_cost(arm: ArmOnStream) -> Cost:
    """Return the cost of the arm's student.

    ``parameters`` are the student's own. ``projector_parameters`` are what its method adds for
    inference, ``training_parameters`` what it adds for training only. ``macs`` are the
    multiply-adds of one image through student, projector and classifier.
    """
    student, projector = arm.student, arm.objective.method.inference_projector()
    projector_parameters = 0 if projector is None else count_parameters(projector)
    device = next(student.parameters()).device
    image = torch.zeros(1, arm.input.own.channels, *arm.input.own.size, device=device)
    # With gradients: without, the counter fails at views that a model passes on, as PiT does.
    with in_eval_mode(student), FlopCounterMode(display=False) as counter:
        student(image)
    by_module = counter.get_flop_counts()
    names = [name for name, module in student.named_modules() if module is projector]
    in_projector = by_module.get(f"{type(student).__name__}.{names[0]}", {}) if names else {}
    return {
        "parameters": count_parameters(student) - projector_parameters,
        "macs": counter.get_total_flops() // 2,
        "projector_parameters": projector_parameters,
        "projector_macs": sum(in_projector.values()) // 2,
        "training_parameters": count_parameters(arm.objective.method),
    }


def inference_costs(arms: Sequence[ArmOnStream]) -> dict[str, Cost]:
    """Return the cost of each arm by its name. Arms with the same student and method share one."""
    costs: dict[object, Cost] = {}
    costs_of_arms = {}
    for arm in arms:
        experiment = arm.experiment
        key = experiment.student.model_dump_json(), experiment.method.model_dump_json()
        if key not in costs:
            costs[key] = inference_cost(arm)
        costs_of_arms[arm.name] = costs[key]
    return costs_of_arms
