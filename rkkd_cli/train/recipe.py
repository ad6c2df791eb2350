"""The optimiser of a training recipe and its learning rate schedule."""

import math

import torch
from torch import Tensor, nn, optim

from rkkd_cli.config.experiment import TrainingConfig


def build_optimizer(model: nn.Module, recipe: TrainingConfig) -> optim.Optimizer:
    """Return SGD (momentum, Nesterov, weight decay) or AdamW over all parameters.

    On CUDA the optimiser is fused, and its learning rate is a tensor that a CUDA graph can read.
    """
    parameters = list(model.parameters())
    fused = all(parameter.is_cuda for parameter in parameters) or None
    optimizer: optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = optim.AdamW(
            parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=fused
        )
    else:
        optimizer = optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    if fused:
        put_lr_on(parameters[0].device, optimizer)
    return optimizer


def put_lr_on(device: torch.device, optimizer: optim.Optimizer) -> None:
    """Make the learning rate a tensor on the device."""
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), group["lr"], device=device)


def allow_capture(optimizer: optim.Optimizer) -> None:
    """Let a CUDA graph capture the optimiser's steps. A fused one computes the same numbers."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True


def step_all_at_once(optimizer: optim.Optimizer) -> None:
    """Let each operation of a step take all parameters: faster for many small ones, same numbers.

    A fused optimiser does so already.
    """
    for group in optimizer.param_groups:
        group["foreach"] = not group["fused"]


def learning_rate(recipe: TrainingConfig, epochs_done: float) -> float:
    """Return the learning rate after ``epochs_done`` epochs, 0 ≤ epochs_done ≤ epochs.

    Warm-up rises linearly from 0 over ``warmup_epochs``. The step schedule multiplies by gamma at
    each milestone. The cosine schedule falls from lr at the end of the warm-up to 0.
    """
    if epochs_done < recipe.warmup_epochs:
        return recipe.lr * epochs_done / recipe.warmup_epochs
    if recipe.schedule == "step":
        passed = sum(epochs_done >= epoch for epoch in recipe.milestone_epochs)
        return recipe.lr * recipe.gamma**passed
    if recipe.schedule == "cosine":
        span = max(recipe.epochs - recipe.warmup_epochs, 1e-9)
        share = (epochs_done - recipe.warmup_epochs) / span
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))
    return recipe.lr


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
