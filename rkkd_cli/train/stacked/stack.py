"""Arms of one architecture as one stacked student: one forward and backward pass for all of them.

Shapes: A arms, B batch, C classes, P parameters of a student.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import autocast
from rkkd_cli.train.profile import Timer, untimed
from rkkd_cli.train.stacked.optimizer import StackedAdamW, StackedOptimizer, StackedSGD
from rkkd_cli.train.taught_batch import StepOutput, TaughtBatch

OPTIMIZERS: dict[str, type[StackedOptimizer]] = {"sgd": StackedSGD, "adamw": StackedAdamW}


class ArmGroup(Protocol):
    """One arm, or several that step together."""

    @property
    def members(self) -> list[ArmOnStream]:
        """The arms."""

    def set_rates(self, epochs_done: float) -> None:
        """Set the learning rate that each arm has after ``epochs_done`` epochs."""

    def step(self, taught: TaughtBatch, timer: Timer = untimed) -> StepOutput:
        """Take one optimisation step with each arm; return what is recorded of it."""


class Stack:
    """Arms whose weights, buffers and optimiser states are the rows of shared tensors.

    The arms' own tensors become views of their rows, so evaluation and checkpoints need not know of
    the stack. The stack does not see what is loaded into an arm later: load first, then stack. An
    arm's numbers are those that it has alone, up to rounding: a convolution of many arms adds in
    another order.
    """

    def __init__(self, arms: Sequence[ArmOnStream]) -> None:
        self.members = list(arms)
        self.student = arms[0].student
        self.process_group = arms[0].trained.process_group
        self.names = [name for name, _ in self.student.named_parameters()]
        rows = [[p.detach() for p in arm.student.parameters()] for arm in arms]
        self.shapes = [parameter.shape for parameter in rows[0]]
        self.sizes = [parameter.numel() for parameter in rows[0]]
        self.weights = torch.stack([torch.cat([p.reshape(-1) for p in row]) for row in rows])
        for arm, weights in zip(self.members, self.weights, strict=True):
            views = self.parameter_views(weights)
            for parameter, view in zip(arm.student.parameters(), views, strict=True):
                parameter.data = view
        self.weights.requires_grad_()
        self.buffers = {name: self._stack_buffer(name) for name, _ in self.student.named_buffers()}
        recipes = [arm.trained.recipe for arm in arms]
        self.optimizer = OPTIMIZERS[recipes[0].optimizer](recipes, self.weights)
        for row, arm in enumerate(self.members):
            self.optimizer.adopt(row, arm.trained.optimizer, self.parameter_views)

    def parameter_views(self, row: Tensor) -> list[Tensor]:
        """Return views of a row (P,) with the shapes of the student's parameters."""
        parts = torch.split(row, self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _stack_buffer(self, name: str) -> Tensor:
        stacked = torch.stack([arm.student.get_buffer(name) for arm in self.members])
        module_path, _, buffer_name = name.rpartition(".")
        for arm, row in zip(self.members, stacked, strict=True):
            setattr(arm.student.get_submodule(module_path), buffer_name, row)
        return stacked

    def set_rates(self, epochs_done: float) -> None:
        """Set the learning rate that each arm has after ``epochs_done`` epochs."""
        for arm in self.members:
            arm.trained.set_rate(epochs_done)
        self.optimizer.set_rates([arm.trained.lr for arm in self.members])

    def step(self, taught: TaughtBatch, timer: Timer = untimed) -> StepOutput:
        """Take one optimisation step with each arm; return what is recorded of it."""
        owner = f"{len(self.members)} arms"
        with timer(owner, "forward"):
            with autocast(self.weights.device, self.members[0].precision):
                logits = self._logits(taught.batch.images)
            losses = [
                arm.objective.loss(taught.inputs(logits_only(arm_logits)))
                for arm, arm_logits in zip(self.members, logits.unbind(), strict=True)
            ]
            total = torch.stack([loss.total for loss in losses]).sum()
        with timer(owner, "backward"):
            loss = self.process_group.scale_loss(total, taught.batch)
            (gradient,) = torch.autograd.grad(loss, self.weights)
            buffers = [buffer for buffer in self.buffers.values() if buffer.is_floating_point()]
            self.process_group.all_reduce([gradient], buffers)
        with timer(owner, "optimiser"):
            self.optimizer.step(self.weights, gradient)
        return StepOutput(logits.detach(), [loss.method_terms for loss in losses])

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (A, B, C) of the images."""
        parts = torch.split(self.weights, self.sizes, dim=1)
        parameters = {
            name: part.reshape(len(self.members), *shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

        def forward(weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
            tensors = {**weights, **buffers}
            logits: Tensor = functional_call(self.student, tensors, (images,))
            return logits

        logits: Tensor = vmap(forward)(parameters, self.buffers)
        return logits


def group_into_stacks(arms: Sequence[ArmOnStream]) -> list[ArmGroup]:
    """Return the arms, stacked where possible, in the order of the first arm of each group."""
    groups: dict[object, list[ArmOnStream]] = {}
    for arm in arms:
        groups.setdefault(_stack_key(arm), []).append(arm)
    return [Stack(group) if len(group) > 1 else group[0] for group in groups.values()]


def _stack_key(arm: ArmOnStream) -> object:
    """Return what the arms of one stack have in common.

    An arm that draws noise, or whose method reads more than logits, stays alone.
    """
    modules = arm.student.modules()
    has_dropout = any(isinstance(module, nn.modules.dropout._DropoutNd) for module in modules)
    if has_dropout or not arm.objective.uses_logits_only:
        return arm.name
    shapes = tuple((name, p.shape) for name, p in arm.student.named_parameters())
    return type(arm.student), shapes, arm.trained.recipe.optimizer
