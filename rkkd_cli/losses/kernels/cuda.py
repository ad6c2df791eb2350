"""Float32 logits on a GPU: the Triton kernel, if Triton is installed."""

import functools

import torch
from torch import Tensor

from rkkd_cli.losses.kernels import are_plain_float32


def supports(s: Tensor, t: Tensor) -> bool:
    """Return whether the Triton kernel can read these tensors: float32, on one GPU.

    While torch.compile traces, PyTorch's operations are used, which it fuses itself.
    """
    on_one_gpu = s.is_cuda and s.device == t.device
    return on_one_gpu and are_plain_float32(s, t) and _triton_runs_on(s.device)


@functools.cache
def _triton_runs_on(device: torch.device) -> bool:
    """Return whether Triton is installed and compiles for this GPU: tried once, on two classes."""
    try:
        zeros = torch.zeros(1, 2, device=device)
        losses_and_gradients(zeros, zeros, 1.0, 0)
    except Exception:  # of Triton, the driver or the C compiler: PyTorch's operations need none
        return False
    return True


def losses_and_gradients(
    s: Tensor, t: Tensor, k: float, surrogate: int, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32.

    ``surrogate`` is an index into ``COMPILED_SURROGATES``.
    """
    from rkkd_cli.losses.kernels import triton_tiles

    return triton_tiles.losses_and_gradients(s, t, k, surrogate, counts)
