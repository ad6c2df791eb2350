"""Arms of one architecture as one stacked student: one forward and backward pass for all of them.

Shapes: A arms, B batch, C classes, P parameters of a student.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import autocast
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.stacked.optimizer import StackedAdamW, StackedOptimizer, StackedSGD
from rkkd_cli.train.taught_batch import StepOutput, TaughtBatch, inputs_of_logits

OPTIMIZERS: dict[str, type[StackedOptimizer]] = {"sgd": StackedSGD, "adamw": StackedAdamW}


class ArmGroup(Protocol):
    """One arm, or several that step together."""

    @property
    def members(self) -> list[ArmOnStream]:
        """The arms."""

    def set_rates(self, epochs_done: float) -> None:
        """Let each arm take the learning rate that it has after ``epochs_done`` epochs."""

    def step(self, taught: TaughtBatch, spans: Spans = untimed) -> StepOutput:
        """Let each arm take its optimisation step; return what is recorded of it."""


class Stack:
    """Arms whose weights, buffers and optimiser states are the rows of common tensors.

    The arms' own tensors become views of their rows, so that whatever reads an arm (evaluation,
    checkpoints) sees what the stack has done. What is loaded into an arm afterwards is not seen by
    the stack: make it when the arms are as they shall be. The numbers of an arm are those that it
    has alone but for rounding: convolutions of many arms add up in another order.
    """

    def __init__(self, arms: Sequence[ArmOnStream]) -> None:
        self.members = list(arms)
        self.student = arms[0].student
        self.names = [name for name, _ in self.student.named_parameters()]
        rows = [[p.detach() for p in arm.student.parameters()] for arm in arms]
        self.shapes = [one.shape for one in rows[0]]
        self.sizes = [one.numel() for one in rows[0]]
        self.weights = torch.stack([torch.cat([one.reshape(-1) for one in row]) for row in rows])
        for arm, row in zip(self.members, self.weights, strict=True):
            for parameter, view in zip(arm.student.parameters(), self.pieces(row), strict=True):
                parameter.data = view
        self.weights.requires_grad_()
        self.buffers = {name: self._stack_buffer(name) for name, _ in self.student.named_buffers()}
        recipes = [arm.trained.recipe for arm in arms]
        self.optimizer = OPTIMIZERS[recipes[0].optimizer](recipes, self.weights)
        for number, arm in enumerate(self.members):
            self.optimizer.share(number, arm.trained.optimizer, self.pieces)

    def pieces(self, row: Tensor) -> list[Tensor]:
        """Return the views of a row (P,) that have the shapes of the student's parameters."""
        parts = torch.split(row, self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _stack_buffer(self, name: str) -> Tensor:
        stacked = torch.stack([arm.student.get_buffer(name) for arm in self.members])
        path, _, last = name.rpartition(".")
        for arm, row in zip(self.members, stacked, strict=True):
            setattr(arm.student.get_submodule(path), last, row)
        return stacked

    def set_rates(self, epochs_done: float) -> None:
        """Let each arm take the learning rate that it has after ``epochs_done`` epochs."""
        for arm in self.members:
            arm.trained.set_rate(epochs_done)
        self.optimizer.set_rates([arm.trained.lr for arm in self.members])

    def step(self, taught: TaughtBatch, spans: Spans = untimed) -> StepOutput:
        """Let each arm take its optimisation step; return what is recorded of it."""
        who, process_group = f"{len(self.members)} arms", self.members[0].trained.process_group
        with spans(who, "forward"):
            with autocast(self.weights.device, self.members[0].precision):
                logits = self._logits(taught.batch.images)
            losses = [
                arm.objective.loss(inputs_of_logits(own, taught))
                for arm, own in zip(self.members, logits.unbind(), strict=True)
            ]
            total = torch.stack([one.total for one in losses]).sum()
        with spans(who, "backward"):
            (gradient,) = torch.autograd.grad(
                process_group.scale_loss(total, taught.batch), self.weights
            )
            floating = [one for one in self.buffers.values() if one.is_floating_point()]
            process_group.all_reduce([gradient], floating)
        with spans(who, "optimiser"):
            self.optimizer.step(self.weights, gradient)
        return StepOutput(logits.detach(), [one.method_terms for one in losses])

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (A, B, C) of the images."""
        parts = torch.split(self.weights, self.sizes, dim=1)
        parameters = {
            name: part.reshape(len(self.members), *shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

        def forward(own: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(self.student, (dict(own), dict(buffers)), (images,))
            return logits

        logits: Tensor = vmap(forward)(parameters, self.buffers)
        return logits


def stacks_of(arms: Sequence[ArmOnStream]) -> list[ArmGroup]:
    """Return the arms, those that can be stacked as stacks, in the order of their first one."""
    groups: dict[object, list[ArmOnStream]] = {}
    for arm in arms:
        groups.setdefault(_kind(arm), []).append(arm)
    return [Stack(one) if len(one) > 1 else one[0] for one in groups.values()]


def _kind(arm: ArmOnStream) -> object:
    """Return what arms of one stack have in common.

    Each arm is alone that draws noise, or whose method looks at more than logits.
    """
    draws = any(isinstance(one, nn.modules.dropout._DropoutNd) for one in arm.student.modules())
    if draws or not arm.objective.uses_logits_only:
        return arm.name
    recipe: TrainingConfig = arm.trained.recipe
    shapes = tuple((name, p.shape) for name, p in arm.student.named_parameters())
    return type(arm.student), shapes, recipe.optimizer
