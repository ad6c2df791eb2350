"""A training recipe at work: the optimiser, and its learning rate at any moment."""

import math

from torch import nn, optim

from rkkd_cli.config.experiment import Training


def build_optimizer(model: nn.Module, recipe: Training) -> optim.Optimizer:
    """Return SGD (momentum, Nesterov, weight decay) or AdamW over all parameters."""
    parameters = list(model.parameters())
    if recipe.optimizer == "adamw":
        return optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def learning_rate(recipe: Training, epochs_done: float) -> float:
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


def _milestone(recipe: Training, value: float) -> float:
    """Return the epoch of a milestone: as given, or a share rounded (halves to the even epoch)."""
    return value if value >= 1 else max(1, round(value * recipe.epochs))


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Give every parameter group the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
