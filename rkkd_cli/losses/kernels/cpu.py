"""Float32 logits on the CPU, image by image, in the compiled kernels of :mod:`numba_pairs`."""

import functools
import importlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

# Pairs that are worth a thread: half a millisecond, ten times as long as starting one takes.
PAIRS_PER_THREAD = 1 << 19
# Orders of fewer channels are compared pair by pair, of more sorted: about where both take as long.
COMPARED = 256


def fits(*logits: Tensor) -> bool:
    """Tell whether the compiled kernels can read these tensors.

    They read memory, which what stands for a tensor (fake, batched, traced) may not have.
    """
    if torch.compiler.is_compiling() or not all(_has_memory(one) for one in logits):
        return False
    return numba_imports()


def _has_memory(tensor: Tensor) -> bool:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.device.type != "cpu":
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return tensor.dtype == torch.float32


@functools.cache
def numba_imports() -> bool:
    """Tell whether numba is there, and fits numpy. It takes a fifth of a second."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def values_and_gradients(s: Tensor, t: Tensor, k: float, kind: int) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32."""
    from rkkd_cli.losses.kernels import numba_pairs

    values, gradients = s.new_empty(len(s)), s.new_empty(s.shape)
    arrays = [_array(one) for one in (s, t)]

    def images(first: int, last: int) -> None:
        numba_pairs.images(kind, *arrays, k, values.numpy(), gradients.numpy(), first, last)

    batch, channels = s.shape
    in_threads(images, batch, channels * (channels - 1) // 2)
    return values, gradients


def pair_counts(s: Tensor, t: Tensor) -> Tensor:
    """Return counts of pairs, (B, 3): concordant less discordant, not tied in s, not tied in t."""
    batch, channels = s.shape
    if channels <= COMPARED or not (s.isfinite().all() and t.isfinite().all()):
        from rkkd_cli.losses.kernels.numba_orders import images as count
    else:
        from rkkd_cli.losses.kernels.numba_sorted import images as count

    counts = torch.empty(len(s), 3, dtype=torch.int64)
    arrays = (_array(s), _array(t), counts.numpy())

    def images(first: int, last: int) -> None:
        count(*(one[first:last] for one in arrays))

    in_threads(images, batch, channels * min(channels, 2 * COMPARED) // 2)
    return counts


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def in_threads(work: Callable[[int, int], None], images: int, pairs: int) -> None:
    """Call ``work(first, last)`` for parts of the images, of so many pairs each, side by side.

    As many threads as PyTorch uses, and none that outlives the call: nothing is left that a fork
    would break, and callers in several threads do not meet. ``work`` must release the GIL.
    """
    wanted = max(1, min(torch.get_num_threads(), images, images * pairs // PAIRS_PER_THREAD))
    if wanted == 1:
        work(0, images)
        return
    ends = [images * (n + 1) // wanted for n in range(wanted)]
    with ThreadPoolExecutor(wanted - 1) as helpers:
        others = [helpers.submit(work, *part) for part in itertools.pairwise(ends)]
        work(0, ends[0])
    for other in others:
        other.result()
