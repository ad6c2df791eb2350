"""Optimisers whose hyper-parameters differ from row to row.

Shapes: A arms, P parameters of a student; weights and gradients (A, P).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, optim

from rkkd_cli.config.experiment import TrainingConfig

Pieces = Callable[[Tensor], list[Tensor]]


class StackedOptimizer(ABC):
    """The optimisers of the arms of a stack: their states are rows of common tensors.

    ``slots`` are the names of those tensors in the state of torch's optimiser.
    """

    slots: tuple[str, ...]
    capturable = True  # by a CUDA graph: all that changes is on the device

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        self.like = weights.detach()
        self.states = {name: torch.zeros_like(self.like) for name in self.slots}
        self.decay = self.column([recipe.weight_decay for recipe in recipes])
        self.rates = self.column([recipe.lr for recipe in recipes])
        self.set_to = [recipe.lr for recipe in recipes]

    def column(self, values: Sequence[float]) -> Tensor:
        """Return one value for each arm, (A, 1)."""
        return self.like.new_tensor(values)[:, None]

    def share(self, number: int, own: optim.Optimizer, pieces: Pieces) -> None:
        """Take the state of an arm's own optimiser over; let it be views of the arm's row."""
        parameters = [p for group in own.param_groups for p in group["params"]]
        for name in self.slots:
            for parameter, view in zip(parameters, pieces(self.states[name][number]), strict=True):
                former = own.state[parameter].get(name)
                if former is not None:
                    view.copy_(former)
                own.state[parameter][name] = view

    def set_rates(self, rates: Sequence[float]) -> None:
        """Take the arms' learning rates. What has not changed is not sent to the device."""
        if list(rates) != self.set_to:
            self.rates.copy_(self.column(rates))
            self.set_to = list(rates)

    @torch.no_grad()
    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Take one step against the gradient."""
        self._descend(weights, gradient)

    @abstractmethod
    def _descend(self, weights: Tensor, gradient: Tensor) -> None:
        """Change the weights in place."""


class StackedSGD(StackedOptimizer):
    """m ← μm + g + λw, w ← w − ηm; with Nesterov w ← w − η(g + λw + μm). As torch.optim.SGD."""

    slots = ("momentum_buffer",)

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        super().__init__(recipes, weights)
        self.momentum = self.column([recipe.momentum for recipe in recipes])
        self.nesterov = self.column([float(recipe.nesterov) for recipe in recipes])

    def _descend(self, weights: Tensor, gradient: Tensor) -> None:
        gradient = gradient + self.decay * weights
        buffer = self.states["momentum_buffer"].mul_(self.momentum).add_(gradient)
        ahead = gradient + self.momentum * buffer
        weights.sub_(self.rates * torch.where(self.nesterov > 0, ahead, buffer))


class StackedAdamW(StackedOptimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW with its defaults."""

    slots = ("exp_avg", "exp_avg_sq")
    capturable = False
    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        super().__init__(recipes, weights)
        self.steps: list[Tensor] = []  # of each arm, one count for each parameter

    def share(self, number: int, own: optim.Optimizer, pieces: Pieces) -> None:
        """Take the state over, with the counts of steps, which all arms of a stack have alike."""
        super().share(number, own, pieces)
        self.steps.append(torch.zeros(len(own.state)))
        for count, state in zip(self.steps[-1], own.state.values(), strict=True):
            count.copy_(state.get("step", count))
            state["step"] = count

    def _descend(self, weights: Tensor, gradient: Tensor) -> None:
        first, second = self.betas
        for counts in self.steps:
            counts += 1
        count = float(self.steps[0][0])
        average = self.states["exp_avg"].lerp_(gradient, 1 - first)
        square = self.states["exp_avg_sq"].mul_(second)
        square.addcmul_(gradient, gradient, value=1 - second)
        weights.mul_(1 - self.rates * self.decay)
        spread = (square / (1 - second**count)).sqrt_().add_(self.eps)
        weights.sub_(self.rates * (average / (1 - first**count)) / spread)
