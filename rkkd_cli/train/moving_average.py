"""An exponential moving average of a model's weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """A copy of a model whose weights w̄ follow the model's: w̄ ← d · w̄ + (1 − d) · w, d = ``decay``.

    It starts at the model's weights. Buffers of floating-point numbers, such as BatchNorm's
    statistics, are averaged as well, as by timm and torchvision; others are copied. Nothing waits
    for the device, so a CUDA graph can replay an update; ``AveragedModel`` of torch would wait.

    ``shared`` is a module that the model reads and that does not change: it is not copied.
    """

    def __init__(self, source: nn.Module, decay: float, shared: nn.Module) -> None:
        self.source = source
        self.follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.model = deepcopy(source, {id(shared): shared}).requires_grad_(False)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that an update changes."""
        return _tensors(self.model)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of the model after a step into account."""
        pairs = list(zip(self.tensors, _tensors(self.source), strict=True))
        for averaged, current in pairs:
            if not averaged.is_floating_point():
                averaged.copy_(current)
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, values = map(list, zip(*floats, strict=True))
        self.follow(averages, values, 0)  # the number of updates, which it does not read


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
