"""A model in training: its optimiser, its random generators and the meters of its epoch."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.moving_average import MovingAverage
from rkkd_cli.train.profile import stage
from rkkd_cli.train.recipe import build_optimizer, learning_rate, set_learning_rate
from rkkd_cli.train.rng import IsolatedRng


class TrainedModel:
    """Everything that changes while a model trains. It shares none of it with other models.

    ``moving_average``, if there is one, is that of the model or of a part of it.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingConfig,
        seed: int,
        meters: EpochMeters,
        process_group: ProcessGroup = SINGLE_PROCESS,
        moving_average: MovingAverage | None = None,
    ) -> None:
        self.model, self.recipe, self.meters = model, recipe, meters
        self.process_group, self.moving_average = process_group, moving_average
        self.optimizer = build_optimizer(model, recipe)
        if not process_group.is_first:
            seed = derive_seed(seed, "rank", process_group.rank)
        self.rng = IsolatedRng(seed, meters.device)
        self.lr = recipe.lr

    def set_rate(self, epochs_done: float) -> None:
        """Set the learning rate that the recipe has after ``epochs_done`` epochs."""
        rate = learning_rate(self.recipe, epochs_done)
        if rate != self.lr:
            self.lr = rate
            set_learning_rate(self.optimizer, rate)

    def backward_and_step(self, loss: Tensor, owner: str = "teacher") -> None:
        """Take one optimisation step with the gradient of the loss.

        A profile shows it as the ``owner``'s.
        """
        with stage("backward", owner):
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        with stage("optimiser", owner):
            self.step()

    def step(self) -> None:
        """Update the weights with the gradients that they have, clipped; then their average."""
        if self.recipe.clip_grad_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
        self.optimizer.step()
        if self.moving_average is not None:
            self.moving_average.update()

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that a step changes, apart from those of the meters."""
        values = [*self.model.parameters(), *self.model.buffers()]
        values += [value for state in self.optimizer.state.values() for value in state.values()]
        averages = [] if self.moving_average is None else self.moving_average.tensors
        return [value.detach() for value in values if isinstance(value, Tensor)] + averages

    def state(self) -> dict[str, Any]:
        """Return the state dict. All ranks call this together: it holds all their generators."""
        generators = self.process_group.gather(self.rng.states)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": self.rng.states,
            "meters": self.meters.state(),
            "lr": self.lr,
        }
        if self.process_group.world_size > 1:
            state["generators_of_ranks"] = generators
        if self.moving_average is not None:
            state["moving_average"] = self.moving_average.model.state_dict()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Load a state dict. Raises ValueError, or what torch raises, where it does not fit."""
        if self.process_group.is_first:
            self.rng.load(state["generators"])
        else:
            self.rng.load(state["generators_of_ranks"][self.process_group.rank])
        self.model.load_state_dict(state["model"])
        if self.moving_average is not None:
            self.moving_average.model.load_state_dict(state["moving_average"])
        optimizer = deepcopy(state["optimizer"])
        groups = zip(optimizer["param_groups"], self.optimizer.param_groups, strict=False)
        for saved_group, group in groups:  # the options depend on the device; a misfit raises below
            saved_group.update({name: value for name, value in group.items() if name != "params"})
        self.optimizer.load_state_dict(optimizer)
        self.meters.load(state["meters"])
        self.lr = state["lr"]
        set_learning_rate(self.optimizer, self.lr)
