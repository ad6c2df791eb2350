"""The ranking loss of float32 logits on a GPU, as a Triton kernel: one program for each tile.

The classes are cut into blocks. A program computes the tile of two blocks i ≤ j of one image: each
pair of classes once, with its agreement and its slope. The row sums of the slopes are block j's
part of the gradient of block i, the column sums block i's part of the gradient of block j. No other
program writes to their places in ``partial`` (B, blocks, C), so nothing is added atomically and
runs repeat bit for bit; the parts are added up afterwards. On the diagonal a tile is a square in
which each pair occurs twice, so its agreement counts half.

**Cost.** tanh is (1 − e)/(1 + e) with e = exp(−2|x|), and both tanh of a pair share one reciprocal.
That makes three special functions (two exponentials, one reciprocal) for each of the B·C(C−1)/2
pairs. A GPU with 16 special functions per clock and multiprocessor needs at least

  B · C(C−1)/2 · 3 / (16 · multiprocessors · clock)  seconds.

At C = 1000 the squares on the diagonal and the padding of the last block add 8 % to the pairs.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

SPECIAL_FUNCTIONS = 3  # for a pair, with the surrogate tanh
TWO_OVER_PI = tl.constexpr(2 / math.pi)


@triton.jit
def arctan(x):  # type: ignore[no-untyped-def]
    """Return 2/π · arctan x, as in numba_pairs."""
    size = tl.abs(x)
    w = tl.where(size > 1, 1 / tl.maximum(size, 1.0), size)
    z = w * w
    numerator = (0.14686078 * z + 0.92076178) * z + 1.00000005
    denominator = ((0.01358557 * z + 0.36489843) * z + 1.25409502) * z + 1
    angle = TWO_OVER_PI * w * numerator / denominator
    angle = tl.where(size > 1, 1 - angle, angle)
    return tl.where(x < 0, -angle, angle)


@triton.jit  # type: ignore[untyped-decorator]
def agreement(dt, ds, k, SURROGATE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Return the agreement of pairs and its slope divided by k.

    SURROGATE is an index into ``COMPILED_SURROGATES``.
    """
    if SURROGATE == 3:
        x = k * dt * ds
        e = tl.exp(-2 * tl.abs(x))
        reciprocal = 1 / (1 + e)
        p = tl.where(x < 0, -1.0, 1.0) * (1 - e) * reciprocal
        slope = 4 * e * reciprocal * reciprocal * dt
    elif SURROGATE == 2:
        y = k * ds
        teacher = arctan(k * dt)
        p = teacher * arctan(y)
        slope = teacher * TWO_OVER_PI / (1 + y * y)
    elif SURROGATE == 1:
        x, y = k * dt, k * ds
        teacher, reciprocal = x / (1 + tl.abs(x)), 1 / (1 + tl.abs(y))
        p = teacher * y * reciprocal
        slope = teacher * reciprocal * reciprocal
    else:
        e, f = tl.exp(-2 * k * tl.abs(dt)), tl.exp(-2 * k * tl.abs(ds))
        both = 1 / ((1 + e) * (1 + f))
        reciprocal = (1 + e) * both
        teacher = tl.where(dt < 0, -1.0, 1.0) * (1 - e) * (1 + f) * both
        p = teacher * tl.where(ds < 0, -1.0, 1.0) * (1 - f) * reciprocal
        slope = teacher * 4 * f * reciprocal * reciprocal
    return p, slope


@triton.jit  # type: ignore[untyped-decorator]
def tile(s, t, counts, partial, agreed, classes, k, SURROGATE: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Write one tile's sums of slopes to ``partial`` (B, blocks, C), and of agreements.

    The latter go to ``agreed`` (B, blocks, blocks). ``counts`` (B,) are of the entries that are
    ranked, or None.
    """
    b, i, j = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    blocks = tl.num_programs(1)
    if j >= i:
        rows, columns = i * SIZE + tl.arange(0, SIZE), j * SIZE + tl.arange(0, SIZE)
        in_rows, in_columns = rows < classes, columns < classes
        ranked = classes if counts is None else tl.load(counts + b)
        s_row = tl.load(s + b * classes + rows, in_rows, 0.0)
        t_row = tl.load(t + b * classes + rows, in_rows, 0.0)
        s_column = tl.load(s + b * classes + columns, in_columns, 0.0)
        t_column = tl.load(t + b * classes + columns, in_columns, 0.0)
        dt, ds = t_row[:, None] - t_column[None, :], s_row[:, None] - s_column[None, :]
        p, slope = agreement(dt, ds, k, SURROGATE)
        real = (rows < ranked)[:, None] & (columns < ranked)[None, :]
        p, slope = tl.where(real, p, 0.0), tl.where(real, slope, 0.0)
        weight = tl.where(i == j, 0.5, 1.0)
        tl.store(agreed + (b * blocks + i) * blocks + j, weight * tl.sum(tl.sum(p, 1), 0))
        tl.store(partial + (b * blocks + j) * classes + rows, tl.sum(slope, 1), in_rows)
        if j > i:
            tl.store(partial + (b * blocks + i) * classes + columns, -tl.sum(slope, 0), in_columns)


def losses_and_gradients(
    s: Tensor, t: Tensor, k: float, surrogate: int, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32.

    The tensors are float32 and on one GPU, which the call does not wait for. Between the kernel and
    the sum over the blocks B·C²/32 numbers are held, or B·C²/128 for more than 4096 classes.
    """
    batch, classes = s.shape
    # On an H200 32 classes and one warp are the fastest of 16 to 128 and 1 to 16. Above 4096
    # classes they would be too, but hold four times the memory that 128 classes do.
    size, warps = (32, 1) if classes <= 4096 else (128, 16)
    blocks = triton.cdiv(classes, size)
    partial = s.new_empty(batch, blocks, classes)
    agreed = s.new_zeros(batch, blocks, blocks)
    launch: Any = tile[(batch, blocks, blocks)]
    with torch.cuda.device(s.device if s.is_cuda else -1):  # −1: the interpreter's tensors
        launch(
            s.detach().contiguous(), t.contiguous(), counts, partial, agreed, classes, float(k),
            surrogate, size, num_warps=warps,
        )  # fmt: skip
    sums, slopes = agreed.sum(dim=(1, 2), dtype=torch.float64), partial.sum(dim=1)
    if counts is not None:
        pairs_of_each = counts * (counts - 1) / 2
        return (sums / -pairs_of_each).clamp(-1, 1).float(), slopes * (-k / pairs_of_each)[:, None]
    pairs = classes * (classes - 1) / 2
    losses = sums / -pairs
    # The rounded reciprocal may have taken an agreement a last bit beyond ±1.
    return losses.clamp(-1, 1).float(), slopes * (-k / pairs)
