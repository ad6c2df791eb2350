"""Float32 logits on the CPU: the numba kernels, image by image, in PyTorch's number of threads."""

import functools
import importlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.losses.kernels import are_plain_float32

# Half a millisecond of work for each thread, ten times as long as it takes to start one.
PAIRS_PER_THREAD = 1 << 19
# Up to so many classes, comparing all pairs is about as fast as sorting, or faster.
MAX_CLASSES_TO_COMPARE = 256


def supports(*logits: Tensor) -> bool:
    """Return whether the numba kernels can read these tensors: float32, in the CPU's memory."""
    if not are_plain_float32(*logits) or not all(_is_in_memory(tensor) for tensor in logits):
        return False
    return numba_is_available()


def _is_in_memory(tensor: Tensor) -> bool:
    if tensor.device.type != "cpu":
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


@functools.cache
def numba_is_available() -> bool:
    """Return whether numba can be imported and fits numpy. The import takes a fifth of a second."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def losses_and_gradients(
    s: Tensor, t: Tensor, k: float, surrogate: int, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32.

    ``surrogate`` is an index into ``COMPILED_SURROGATES``.
    """
    from rkkd_cli.losses.kernels import numba_pairs

    batch, classes = s.shape
    losses, gradients = s.new_empty(batch), s.new_empty(s.shape)
    students, teachers = _as_array(s), _as_array(t)
    entries = torch.full((batch,), classes) if counts is None else counts

    def compute(first: int, last: int) -> None:
        numba_pairs.losses_and_gradients(
            surrogate, students, teachers, entries.numpy(), k, losses.numpy(), gradients.numpy(),
            first, last,
        )  # fmt: skip

    run_in_threads(compute, batch, pairs_per_image=classes * (classes - 1) // 2)
    return losses, gradients


def count_pairs(s: Tensor, t: Tensor) -> Tensor:
    """Return counts of pairs, (B, 3), as :func:`torch_blocks.count_pairs`."""
    batch, classes = s.shape
    if classes <= MAX_CLASSES_TO_COMPARE or not (s.isfinite().all() and t.isfinite().all()):
        from rkkd_cli.losses.kernels.numba_orders import count_by_comparing as count
    else:
        from rkkd_cli.losses.kernels.numba_sorted import count_by_sorting as count

    counts = torch.empty(batch, 3, dtype=torch.int64)
    students, teachers, rows = _as_array(s), _as_array(t), counts.numpy()

    def compute(first: int, last: int) -> None:
        count(students[first:last], teachers[first:last], rows[first:last])

    pairs = classes * min(classes, 2 * MAX_CLASSES_TO_COMPARE) // 2
    run_in_threads(compute, batch, pairs_per_image=pairs)
    return counts


def _as_array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def run_in_threads(work: Callable[[int, int], None], images: int, pairs_per_image: int) -> None:
    """Call ``work(first, last)`` for ranges of the images, in as many threads as PyTorch uses.

    No thread outlives the call, so nothing is left that a fork would break, and callers in several
    threads do not meet. ``work`` must release the GIL.
    """
    useful = images * pairs_per_image // PAIRS_PER_THREAD
    threads = max(1, min(torch.get_num_threads(), images, useful))
    if threads == 1:
        work(0, images)
        return
    ends = [images * (n + 1) // threads for n in range(threads)]
    with ThreadPoolExecutor(threads - 1) as executor:
        futures = [executor.submit(work, first, last) for first, last in itertools.pairwise(ends)]
        work(0, ends[0])
    for future in futures:
        future.result()
