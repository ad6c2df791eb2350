"""Arms of one architecture as one stacked student: one forward and backward pass for all of them.

Shapes: A arms, B batch, C classes.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import autocast
from rkkd_cli.train.profile import stage
from rkkd_cli.train.recipe import step_all_at_once
from rkkd_cli.train.regions import AnyTaught
from rkkd_cli.train.taught_batch import StepOutput, TaughtBatch

DROP_PATHS = ("DropPath", "StochasticDepth")  # the layers of timm and torchvision


class ArmGroup(Protocol):
    """One arm, or several that step together."""

    @property
    def members(self) -> list[ArmOnStream]:
        """The arms."""

    def set_rates(self, epochs_done: float) -> None:
        """Set the learning rate that each arm has after ``epochs_done`` epochs."""

    def step(self, taught: AnyTaught) -> StepOutput:
        """Take one optimisation step with each arm; return what is recorded of it."""


class Stack:
    """Arms whose weights and buffers are the rows of shared tensors.

    The arms' own tensors become views of their rows, and the rows of the gradients become the
    gradients of the arms, which take their own steps. So clipping, optimisers, moving averages,
    evaluation and checkpoints need not know of the stack. An arm's numbers are those that it has
    alone, up to rounding: a convolution of many arms adds in another order.
    """

    def __init__(self, arms: Sequence[ArmOnStream]) -> None:
        self.members = list(arms)
        self.process_group = arms[0].process_group
        loss = StackedLoss(arms)
        self.loss = self.process_group.wrap(loss, sync_batchnorm=False, uses_all=arms[0].uses_all)
        self.weights = [weights for weights in loss.weights.values() if weights.requires_grad]
        for name, weights in loss.weights.items():
            parameters = [arm.student.get_parameter(name) for arm in arms]
            for parameter, row in zip(parameters, weights.detach(), strict=True):
                parameter.data = row
            if weights.requires_grad:
                weights.grad = torch.zeros_like(weights)
                for parameter, row in zip(parameters, weights.grad, strict=True):
                    parameter.grad = row
        for name, buffer in loss.stacked_buffers.items():
            for arm, row in zip(arms, buffer, strict=True):
                arm.student.get_buffer(name).data = row
        for arm in arms:
            step_all_at_once(arm.trained.optimizer)

    def set_rates(self, epochs_done: float) -> None:
        """Set the learning rate that each arm has after ``epochs_done`` epochs."""
        for arm in self.members:
            arm.set_rates(epochs_done)

    def step(self, taught: AnyTaught) -> StepOutput:
        """Take one optimisation step with each arm; return what is recorded of it."""
        output: StepOutput
        owner = f"{len(self.members)} arms"
        with stage("forward", owner):
            total, output = self.loss(taught)
        with stage("backward", owner):
            for weights in self.weights:
                assert weights.grad is not None
                weights.grad.zero_()  # backward() adds to it, in place
            torch.autograd.backward(self.process_group.scale_loss(total, taught.batch))
        with stage("optimiser", owner):
            for arm in self.members:
                arm.trained.step()
        return output


class StackedLoss(nn.Module):
    """The students and objectives of several arms as one module: a batch in, the total loss out.

    ``weights`` and ``stacked_buffers`` have a row for each arm.
    """

    def __init__(self, arms: Sequence[ArmOnStream]) -> None:
        super().__init__()
        self.arms = arms
        skeleton = copy.deepcopy(arms[0].student)  # its own weights are not used
        for module in skeleton.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(_in_float32_on_cuda)
        self.run_student = partial(functional_call, skeleton)
        # With weights in channels_last, vmap's batch normalisation is slower on a CPU.
        students = [arm.student.to(memory_format=torch.contiguous_format) for arm in arms]
        stacked, self.stacked_buffers = stack_module_state(students)
        self.weights = {
            name: nn.Parameter(weights, requires_grad=weights.requires_grad)
            for name, weights in stacked.items()
        }
        self.parameter_list = nn.ParameterList(self.weights.values())

    def forward(self, taught: TaughtBatch) -> tuple[Tensor, StepOutput]:
        """Return the sum of the arms' losses, and what is recorded of them."""
        images = taught.images_for(self.arms[0].input)
        if images.is_cuda:
            images = images.contiguous()  # vmap cannot pass channels_last to cuDNN's BatchNorm
        with autocast(images.device, self.arms[0].precision):
            logits = vmap(self._logits, (0, 0, None))(self.weights, self.stacked_buffers, images)
        group = self.arms[0].process_group
        outputs = [
            group.gather_outputs(logits_only(arm_logits), taught.batch)
            for arm_logits in logits.unbind()
        ]
        losses = [
            taught.loss(arm.objective, arm.task.features(of_arm))
            for arm, of_arm in zip(self.arms, outputs, strict=True)
        ]
        total = torch.stack([loss.total for loss in losses]).sum()
        logits = torch.stack([of_arm.logits.detach() for of_arm in outputs])
        return total, StepOutput(logits, [loss.method_terms for loss in losses])

    def _logits(
        self, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor
    ) -> Tensor:
        """Return the logits (B, C) of one student."""
        logits: Tensor = self.run_student({**weights, **buffers}, (images,))
        return logits


def _in_float32_on_cuda(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Return a BatchNorm's input as vmap takes it on CUDA: bfloat16 maps are refused there."""
    (maps,) = inputs
    return (maps.float(),) if maps.is_cuda and maps.dtype == torch.bfloat16 else inputs


def group_into_stacks(arms: Sequence[ArmOnStream]) -> list[ArmGroup]:
    """Return the arms, stacked where possible, in the order of the first arm of each group."""
    groups: dict[object, list[ArmOnStream]] = {}
    for arm in arms:
        groups.setdefault(_stack_key(arm), []).append(arm)
    return [Stack(group) if len(group) > 1 else group[0] for group in groups.values()]


def can_stack(arms: Sequence[ArmOnStream]) -> bool:
    """Return whether any two of the arms can be stacked."""
    return len({_stack_key(arm) for arm in arms}) < len(arms)


def _stack_key(arm: ArmOnStream) -> object:
    """Return what the arms of one stack have in common.

    An arm that draws noise, or whose method reads more than logits, stays alone.
    """
    draws = any(
        m.p > 0 if isinstance(m, _DropoutNd) else type(m).__name__ in DROP_PATHS
        for m in arm.student.modules()
    )
    if draws or not arm.objective.uses_logits_only:
        return arm.name
    shapes = tuple((name, p.shape) for name, p in arm.student.named_parameters())
    return type(arm.student), arm.experiment.student.described, shapes, arm.input
