"""Batch normalisation with the statistics of the whole batch, whichever ranks have its images.

Shapes: B the rank's images, D channels, x (B, D, …).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rkkd_cli.errors import UserError
from rkkd_cli.train.distributed.process_group import ProcessGroup

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """The layer ``former`` over all ranks: mean and variance are those of all their images.

    y = (x − μ) / √(σ² + ε) · w + b with μ = Σ x / n and σ² = Σ (x − μ)² / n, sums and n over all
    ranks, and so is the gradient through them. In eval mode as before. torch.nn.SyncBatchNorm does
    the same in fewer kernels, on GPUs alone; here CPUs compute it too, in whatever precision.
    """

    def __init__(self, former: _BatchNorm, process_group: ProcessGroup) -> None:
        super().__init__(
            former.num_features,
            former.eps,
            former.momentum,
            former.affine,
            former.track_running_stats,
        )
        self.process_group = process_group
        self.weight, self.bias = former.weight, former.bias
        for name, buffer in former.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.train(former.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values, in the precision of x."""
        if not self.training:
            evaluated: Tensor = super().forward(x)
            return evaluated
        values = x.float() if x.dtype.itemsize < 4 else x
        over, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        count = values.new_full((1,), x.numel() / x.shape[1])
        sums = self._summed(torch.cat([values.sum(over), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = self._summed(centred.square().sum(over)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _summed(self, own: Tensor) -> Tensor:
        summed: Tensor = _Summed.apply(own, self.process_group)
        return summed

    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running statistics towards those of the batch."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


class _Summed(torch.autograd.Function):
    """Σ over ranks. Each rank's loss depends on it, so its gradient is their sum as well."""

    @staticmethod
    def forward(context: Any, own: Tensor, process_group: ProcessGroup) -> Tensor:
        context.process_group = process_group
        summed = own.clone()
        process_group.all_reduce([summed])
        return summed

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].clone()
        context.process_group.all_reduce([summed])
        return summed, None


def synchronise(model: nn.Module, process_group: ProcessGroup) -> None:
    """Let all batch normalisation of the model be over all ranks; parameters stay as they are.

    Raises UserError for a layer that does more than that.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and type(child) in KINDS:
                setattr(module, name, SyncBatchNorm(child, process_group))
            elif isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                raise UserError(
                    f"sync_batchnorm: {type(child).__name__} of {type(model).__name__} is more "
                    "than batch normalisation and cannot be synchronised; leave sync_batchnorm away"
                )
