"""A training recipe at work: the optimiser, and its learning rate at any moment."""

import math

import torch
from torch import Tensor, nn, optim

from rkkd_cli.config.experiment import TrainingConfig


def build_optimizer(model: nn.Module, recipe: TrainingConfig) -> optim.Optimizer:
    """Return SGD (momentum, Nesterov, weight decay) or AdamW over all parameters.

    On CUDA it is PyTorch's fused one, and its rate a tensor there, which a CUDA graph can read.
    """
    parameters = list(model.parameters())
    on_cuda = all(one.is_cuda for one in parameters)
    optimizer = _optimizer(parameters, recipe, on_cuda or None)
    if on_cuda:
        hold_rate_on(parameters[0].device, optimizer)
    return optimizer


def _optimizer(
    parameters: list[nn.Parameter], recipe: TrainingConfig, fused: bool | None
) -> optim.Optimizer:
    if recipe.optimizer == "adamw":
        return optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)
    return optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def hold_rate_on(device: torch.device, optimizer: optim.Optimizer) -> None:
    """Let the learning rate be a tensor on the device from now on."""
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), group["lr"], device=device)


def allow_capture(optimizer: optim.Optimizer) -> None:
    """Let a CUDA graph record the steps of an optimiser; a fused one computes the same as ever."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True


def learning_rate(recipe: TrainingConfig, epochs_done: float) -> float:
    """Return the learning rate after ``epochs_done`` epochs, 0 ≤ epochs_done ≤ epochs.

    Warm-up rises linearly from 0 over ``warmup_epochs``. The step schedule multiplies by gamma
    at each milestone passed; the cosine one falls from lr at the warm-up's end to 0 at the end.
    """
    if epochs_done < recipe.warmup_epochs:
        return recipe.lr * epochs_done / recipe.warmup_epochs
    if recipe.schedule == "step":
        passed = sum(epochs_done >= _milestone(recipe, value) for value in recipe.milestones)
        return recipe.lr * recipe.gamma**passed
    if recipe.schedule == "cosine":
        span = max(recipe.epochs - recipe.warmup_epochs, 1e-9)
        share = (epochs_done - recipe.warmup_epochs) / span
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))
    return recipe.lr


def _milestone(recipe: TrainingConfig, value: float) -> float:
    """Return the epoch of a milestone: as given, or a share rounded (halves to the even epoch)."""
    return value if value >= 1 else max(1, round(value * recipe.epochs))


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Give every parameter group the rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
