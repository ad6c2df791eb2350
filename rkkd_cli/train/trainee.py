"""A model in training: its optimiser, its generators and the sums of its epoch."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import Training
from rkkd_cli.train.randomness import Randomness
from rkkd_cli.train.recipe import build_optimizer, learning_rate, set_learning_rate
from rkkd_cli.train.totals import Totals


class Trainee:
    """Everything that changes while a model trains; nothing is shared with another one."""

    def __init__(self, model: nn.Module, recipe: Training, seed: int, totals: Totals) -> None:
        self.model, self.recipe, self.totals = model, recipe, totals
        self.optimizer = build_optimizer(model, recipe)
        self.randomness = Randomness(seed, totals.device)
        self.lr = recipe.lr

    def set_rate(self, epochs_done: float) -> None:
        """Take the learning rate that the recipe has after ``epochs_done`` epochs."""
        self.lr = learning_rate(self.recipe, epochs_done)
        set_learning_rate(self.optimizer, self.lr)

    def descend(self, loss: Tensor) -> None:
        """Take one optimisation step against the gradient of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs to go on as if nothing had happened."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": self.randomness.states,
            "totals": self.totals.state(),
            "lr": self.lr,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a state. Raises ValueError, or what torch raises, where it does not fit."""
        self.randomness.load(state["generators"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))  # it would keep the tensors
        self.totals.load(state["totals"])
        self.lr = state["lr"]
