"""Optimisers whose hyper-parameters differ from row to row.

Shapes: A arms, P parameters of a student; weights and gradients (A, P).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, optim

from rkkd_cli.config.experiment import TrainingConfig

ParameterViews = Callable[[Tensor], list[Tensor]]


class StackedOptimizer(ABC):
    """The optimisers of the arms of a stack; their states are rows of shared tensors.

    ``slots`` are the names of those tensors in the state of torch's optimiser.
    """

    slots: tuple[str, ...]
    capturable = True  # by a CUDA graph: everything that changes is on the device

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        self.weights = weights.detach()
        self.states = {slot: torch.zeros_like(self.weights) for slot in self.slots}
        self.decay = self.column([recipe.weight_decay for recipe in recipes])
        self.rates = self.column([recipe.lr for recipe in recipes])
        self.current_rates = [recipe.lr for recipe in recipes]

    def column(self, values: Sequence[float]) -> Tensor:
        """Return one value per arm as a tensor (A, 1)."""
        return self.weights.new_tensor(values)[:, None]

    def adopt(self, row: int, optimizer: optim.Optimizer, views: ParameterViews) -> None:
        """Copy the state of an arm's optimiser into a row, and make it views of that row.

        ``views`` splits a row (P,) into views with the shapes of the parameters.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for slot in self.slots:
            for parameter, view in zip(parameters, views(self.states[slot][row]), strict=True):
                value = optimizer.state[parameter].get(slot)
                if value is not None:
                    view.copy_(value)
                optimizer.state[parameter][slot] = view

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the arms' learning rates. Unchanged ones are not sent to the device again."""
        if list(rates) != self.current_rates:
            self.rates.copy_(self.column(rates))
            self.current_rates = list(rates)

    @abstractmethod
    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Update the weights in place."""


class StackedSGD(StackedOptimizer):
    """m ← μm + g + λw, w ← w − ηm; with Nesterov w ← w − η(g + λw + μm). As torch.optim.SGD."""

    slots = ("momentum_buffer",)

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        super().__init__(recipes, weights)
        self.momentum = self.column([recipe.momentum for recipe in recipes])
        self.nesterov = self.column([float(recipe.nesterov) for recipe in recipes])

    @torch.no_grad()
    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Update the weights in place."""
        gradient = gradient + self.decay * weights
        buffer = self.states["momentum_buffer"].mul_(self.momentum).add_(gradient)
        nesterov_step = gradient + self.momentum * buffer
        weights.sub_(self.rates * torch.where(self.nesterov > 0, nesterov_step, buffer))


class StackedAdamW(StackedOptimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW with its defaults."""

    slots = ("exp_avg", "exp_avg_sq")
    capturable = False
    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, recipes: Sequence[TrainingConfig], weights: Tensor) -> None:
        super().__init__(recipes, weights)
        self.step_counts: list[Tensor] = []  # for each arm, the count of each parameter

    def adopt(self, row: int, optimizer: optim.Optimizer, views: ParameterViews) -> None:
        """Adopt the state with its step counts, which are equal for all arms of a stack."""
        super().adopt(row, optimizer, views)
        self.step_counts.append(torch.zeros(len(optimizer.state)))
        for count, state in zip(self.step_counts[-1], optimizer.state.values(), strict=True):
            count.copy_(state.get("step", count))
            state["step"] = count

    @torch.no_grad()
    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Update the weights in place."""
        beta1, beta2 = self.betas
        for counts in self.step_counts:
            counts += 1
        count = float(self.step_counts[0][0])
        average = self.states["exp_avg"].lerp_(gradient, 1 - beta1)
        square = self.states["exp_avg_sq"].mul_(beta2)
        square.addcmul_(gradient, gradient, value=1 - beta2)
        weights.mul_(1 - self.rates * self.decay)
        denominator = (square / (1 - beta2**count)).sqrt_().add_(self.eps)
        weights.sub_(self.rates * (average / (1 - beta1**count)) / denominator)
