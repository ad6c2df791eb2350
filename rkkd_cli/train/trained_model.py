"""A model in training: its optimiser, its generators and the sums of its epoch."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.recipe import build_optimizer, learning_rate, set_learning_rate
from rkkd_cli.train.rng import Randomness


class TrainedModel:
    """Everything that changes while a model trains; nothing is shared with another one."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingConfig,
        seed: int,
        meters: EpochMeters,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.model, self.recipe, self.meters, self.process_group = (
            model,
            recipe,
            meters,
            process_group,
        )
        self.optimizer = build_optimizer(model, recipe)
        own_seed = seed if process_group.is_first else derive_seed(seed, "rank", process_group.rank)
        self.randomness = Randomness(own_seed, meters.device)
        self.lr = recipe.lr

    def set_rate(self, epochs_done: float) -> None:
        """Take the learning rate that the recipe has after ``epochs_done`` epochs."""
        rate = learning_rate(self.recipe, epochs_done)
        if rate != self.lr:
            self.lr = rate
            set_learning_rate(self.optimizer, rate)

    def backward_and_step(self, loss: Tensor, spans: Spans = untimed, who: str = "") -> None:
        """Take one optimisation step against the gradient of the loss, summed over ranks."""
        with spans(who, "backward"):
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.process_group.sync_gradients(self.model)
        with spans(who, "optimiser"):
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs to go on as if nothing had happened.

        All ranks ask for it at once, as it has all of their generators.
        """
        generators = self.process_group.gather(self.randomness.states)
        further = {"generators_of_ranks": generators} if self.process_group.world_size > 1 else {}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": self.randomness.states,
            "meters": self.meters.state(),
            "lr": self.lr,
            **further,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a state. Raises ValueError, or what torch raises, where it does not fit."""
        first = self.process_group.is_first
        self.randomness.load(
            state["generators"] if first else state["generators_of_ranks"][self.process_group.rank]
        )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(self._fitted(deepcopy(state["optimizer"])))
        self.meters.load(state["meters"])
        self.lr = state["lr"]
        set_learning_rate(self.optimizer, self.lr)

    def _fitted(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Give the state of an optimiser the options of ours: on another device it has others."""
        groups = optimizer["param_groups"], self.optimizer.param_groups
        for group, own in zip(*groups, strict=False):  # what loads them refuses another number
            group.update({name: value for name, value in own.items() if name != "params"})
        return optimizer
