"""Kernels over pairs of classes: numba on the CPU, Triton on CUDA, PyTorch elsewhere.

Shapes in all of them: s student logits and t teacher logits (B, C), B images, C classes. ``counts``
(B,) says that of each image only the first so many entries are ranked, at least 2; what stands
behind them adds nothing, and the pairs that the loss is divided by are those of that number.
"""

import torch
from torch import Tensor, nn


def are_plain_float32(*logits: Tensor) -> bool:
    """Return whether a compiled kernel may read these tensors' memory.

    It may not while torch.compile traces, and not for tensors that stand in for others (fake,
    batched or traced ones).
    """
    if torch.compiler.is_compiling():
        return False
    return all(
        type(tensor) in (Tensor, nn.Parameter) and tensor.dtype == torch.float32
        for tensor in logits
    )
