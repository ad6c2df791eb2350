"""Float32 logits on a GPU, in the Triton kernel of :mod:`triton_tiles`, where Triton is."""

import functools

import torch
from torch import Tensor, nn


def fits(s: Tensor, t: Tensor) -> bool:
    """Tell whether the Triton kernel can read these tensors: float32, whole, on one GPU.

    What torch.compile traces stays in PyTorch's operations, which it fuses itself.
    """
    plain = all(type(one) in (Tensor, nn.Parameter) for one in (s, t))
    if not (plain and s.is_cuda and s.device == t.device) or torch.compiler.is_compiling():
        return False
    return s.dtype == t.dtype == torch.float32 and _runs_on(s.device)


@functools.cache
def _runs_on(device: torch.device) -> bool:
    """Tell whether Triton is there, and compiles for this GPU: tried once, on two channels."""
    try:
        zeros = torch.zeros(1, 2, device=device)
        values_and_gradients(zeros, zeros, 1.0, 0)
    except Exception:  # Triton's, the driver's, the C compiler's: PyTorch's form needs none of them
        return False
    return True


def values_and_gradients(s: Tensor, t: Tensor, k: float, kind: int) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32."""
    from rkkd_cli.losses.kernels import triton_tiles

    return triton_tiles.values_and_gradients(s, t, k, kind)
