"""Batch normalisation with the statistics of the global batch.

Shapes: B the rank's images, D channels, x (B, D, …).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rkkd_cli.errors import UserError
from rkkd_cli.train.distributed.process_group import ProcessGroup

BATCHNORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """Replaces the layer ``former``: mean and variance are those of the images of all ranks.

    y = (x − μ) / √(σ² + ε) · w + b with μ = Σ x / n and σ² = Σ (x − μ)² / n, where the sums and n
    go over all ranks; so does the gradient. In eval mode it computes what ``former`` does.
    torch.nn.SyncBatchNorm does the same in fewer kernels, but on GPUs only. This one also runs on
    CPUs, in any precision.
    """

    def __init__(self, former: _BatchNorm, process_group: ProcessGroup) -> None:
        super().__init__(
            former.num_features,
            eps=former.eps,
            momentum=former.momentum,
            affine=former.affine,
            track_running_stats=former.track_running_stats,
        )
        self.process_group = process_group
        self.weight, self.bias = former.weight, former.bias
        for name, buffer in former.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.train(former.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values, in the dtype of x."""
        if not self.training:
            evaluated: Tensor = super().forward(x)
            return evaluated
        values = x.float() if x.dtype.itemsize < 4 else x
        dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        count = values.new_full((1,), x.numel() / x.shape[1])
        sums = self._sum_over_ranks(torch.cat([values.sum(dims), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = self._sum_over_ranks(centred.square().sum(dims)) / count
        self._update_running_stats(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        summed: Tensor = _AllReduce.apply(values, self.process_group)
        return summed

    def _update_running_stats(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), rate)


class _AllReduce(torch.autograd.Function):
    """Σ over ranks. Each rank's loss depends on the sum, so the gradient is summed as well."""

    @staticmethod
    def forward(context: Any, values: Tensor, process_group: ProcessGroup) -> Tensor:
        context.process_group = process_group
        summed = values.clone()
        process_group.all_reduce([summed])
        return summed

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].clone()
        context.process_group.all_reduce([summed])
        return summed, None


def convert_sync_batchnorm(model: nn.Module, process_group: ProcessGroup) -> None:
    """Replace every BatchNorm layer of the model by a SyncBatchNorm with the same parameters.

    Raises UserError for a subclass of BatchNorm, which may compute something else.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and type(child) in BATCHNORM_TYPES:
                setattr(module, name, SyncBatchNorm(child, process_group))
            elif isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                raise UserError(
                    f"sync_batchnorm: {type(child).__name__} of {type(model).__name__} is more "
                    "than batch normalisation and cannot be synchronised; leave out sync_batchnorm"
                )
