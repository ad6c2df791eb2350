"""The optimiser of a training recipe and its learning rate schedule."""

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn, optim

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.models.external.wrapper import WrappedModel


def build_optimizer(model: nn.Module, recipe: TrainingConfig) -> optim.Optimizer:
    """Return SGD (momentum, Nesterov), Adam or AdamW over all parameters, with weight decay.

    On CUDA the optimiser is fused, and its learning rate is a tensor that a CUDA graph can read.
    """
    fused = all(parameter.is_cuda for parameter in model.parameters()) or None
    parameters = list(model.parameters()) if recipe.norm_bias_decay else decay_groups(model)
    optimizer: optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    else:
        adam = {"adam": optim.Adam, "adamw": optim.AdamW}[recipe.optimizer]
        optimizer = adam(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)
    if fused:
        put_lr_on(next(model.parameters()).device, optimizer)
    return optimizer


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameter groups with weight decay and without it; none is empty.

    Without it are parameters of at most one dimension (norms, biases), those named ``bias``, and
    those named by the ``no_weight_decay()`` of the model or of a part: timm's models have it.
    """
    patterns = [
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in _exempt_names(module)
    ]
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_exempt = parameter.ndim <= 1 or name.endswith(".bias")
        is_exempt = is_exempt or any(fnmatchcase(name, pattern) for pattern in patterns)
        (exempt if is_exempt else decayed).append(parameter)
    groups = {"params": decayed}, {"params": exempt, "weight_decay": 0.0}
    return [dict(group) for group in groups if group["params"]]


def _exempt_names(module: nn.Module) -> Iterable[str]:
    """Return the names, or patterns of names, in the module's ``no_weight_decay()``, if any."""
    owner = module.library if isinstance(module, WrappedModel) else module
    no_weight_decay = getattr(owner, "no_weight_decay", None)
    return no_weight_decay() if callable(no_weight_decay) else ()


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

    Warm-up rises linearly from warmup_lr over ``warmup_epochs``. The step schedule multiplies by
    gamma at each milestone. The cosine schedule falls from lr at the end of the warm-up to min_lr.
    """
    if epochs_done < recipe.warmup_epochs:
        rise = recipe.lr - recipe.warmup_lr
        return recipe.warmup_lr + rise * epochs_done / recipe.warmup_epochs
    if recipe.schedule == "step":
        passed = sum(epochs_done >= epoch for epoch in recipe.milestone_epochs)
        return recipe.lr * recipe.gamma**passed
    if recipe.schedule == "cosine":
        span = max(recipe.epochs - recipe.warmup_epochs, 1e-9)
        share = (epochs_done - recipe.warmup_epochs) / span
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
    return recipe.lr


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
