"""The ranking loss of float32 logits on a GPU, as a Triton kernel: one program per tile of pairs.

The channels are cut into blocks, and a program takes a pair of blocks (i ≤ j) of one image: of each
pair of channels one evaluation gives the agreement and the slope for both ends. Where the tile's
sums belong no other program writes: its rows' are the shares that block j has in the gradient of
block i, its columns' those that block i has in the gradient of block j. So nothing is added
atomically, and runs repeat; the shares, (B, blocks, C), are added up afterwards. On the diagonal a
block meets itself in a square, where each pair stands twice, and its agreement counts half.

**What it costs.** tanh is (1 − e)/(1 + e) with e = exp(−2|x|), and both tanh of a pair share one
reciprocal: three special functions (two exponentials, one reciprocal) for each of the
B·C(C−1)/2 pairs. A GPU with 16 special functions per clock and multiprocessor needs at least

  B · C(C−1)/2 · 3 / (16 · multiprocessors · clock)  seconds.

At C = 1000 the squares on the diagonal and the last block's padding make it 1.12 times the pairs.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

SPECIAL_FUNCTIONS = 3  # of a pair, with the surrogate tanh
PER_RIGHT_ANGLE = tl.constexpr(2 / math.pi)


@triton.jit
def arctan(x):  # type: ignore[no-untyped-def]
    """Return 2/π · arctan x: as in numba_pairs."""
    size = tl.abs(x)
    w = tl.where(size > 1, 1 / tl.maximum(size, 1.0), size)
    z = w * w
    above = (0.14686078 * z + 0.92076178) * z + 1.00000005
    below = ((0.01358557 * z + 0.36489843) * z + 1.25409502) * z + 1
    angle = PER_RIGHT_ANGLE * w * above / below
    angle = tl.where(size > 1, 1 - angle, angle)
    return tl.where(x < 0, -angle, angle)


@triton.jit  # type: ignore[untyped-decorator]
def agreement(dt, ds, k, KIND: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Return the agreement of pairs, and its slope over k; KIND as in COMPILED (surrogates.py)."""
    if KIND == 3:
        x = k * dt * ds
        e = tl.exp(-2 * tl.abs(x))
        below = 1 / (1 + e)
        p = tl.where(x < 0, -1.0, 1.0) * (1 - e) * below
        slope = 4 * e * below * below * dt
    elif KIND == 2:
        y = k * ds
        teacher = arctan(k * dt)
        p = teacher * arctan(y)
        slope = teacher * PER_RIGHT_ANGLE / (1 + y * y)
    elif KIND == 1:
        x, y = k * dt, k * ds
        teacher, below = x / (1 + tl.abs(x)), 1 / (1 + tl.abs(y))
        p = teacher * y * below
        slope = teacher * below * below
    else:
        e, f = tl.exp(-2 * k * tl.abs(dt)), tl.exp(-2 * k * tl.abs(ds))
        both = 1 / ((1 + e) * (1 + f))
        below = (1 + e) * both
        teacher = tl.where(dt < 0, -1.0, 1.0) * (1 - e) * (1 + f) * both
        p = teacher * tl.where(ds < 0, -1.0, 1.0) * (1 - f) * below
        slope = teacher * 4 * f * below * below
    return p, slope


@triton.jit  # type: ignore[untyped-decorator]
def tile(s, t, shares, agreed, channels, k, KIND: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Write one tile's sums: of slopes to (B, blocks, C), of agreements to (B, blocks, blocks)."""
    b, i, j = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    blocks = tl.num_programs(1)
    if j >= i:
        rows, columns = i * SIZE + tl.arange(0, SIZE), j * SIZE + tl.arange(0, SIZE)
        in_rows, in_columns = rows < channels, columns < channels
        s_row = tl.load(s + b * channels + rows, in_rows, 0.0)
        t_row = tl.load(t + b * channels + rows, in_rows, 0.0)
        s_column = tl.load(s + b * channels + columns, in_columns, 0.0)
        t_column = tl.load(t + b * channels + columns, in_columns, 0.0)
        dt, ds = t_row[:, None] - t_column[None, :], s_row[:, None] - s_column[None, :]
        p, slope = agreement(dt, ds, k, KIND)
        real = in_rows[:, None] & in_columns[None, :]
        p, slope = tl.where(real, p, 0.0), tl.where(real, slope, 0.0)
        weight = tl.where(i == j, 0.5, 1.0)
        tl.store(agreed + (b * blocks + i) * blocks + j, weight * tl.sum(tl.sum(p, 1), 0))
        tl.store(shares + (b * blocks + j) * channels + rows, tl.sum(slope, 1), in_rows)
        if j > i:
            tl.store(shares + (b * blocks + i) * channels + columns, -tl.sum(slope, 0), in_columns)


def values_and_gradients(s: Tensor, t: Tensor, k: float, kind: int) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in float32.

    Waits for nothing. The tensors are float32 and on one GPU; between the kernel and the sum over
    the blocks, B·C²/64 numbers are held, or B·C²/128 for more than 4096 channels.
    """
    batch, channels = s.shape
    size = 64 if channels <= 4096 else 128
    blocks = triton.cdiv(channels, size)
    shares = s.new_empty(batch, blocks, channels)
    agreed = s.new_zeros(batch, blocks, blocks)
    launch: Any = tile[(batch, blocks, blocks)]
    with torch.cuda.device(s.device if s.is_cuda else -1):  # −1: the interpreter's tensors
        launch(
            s.detach().contiguous(), t.contiguous(), shares, agreed, channels, float(k),
            kind, size, num_warps=8 if size == 64 else 16,
        )  # fmt: skip
    pairs = channels * (channels - 1) / 2
    values = agreed.sum(dim=(1, 2), dtype=torch.float64) / -pairs
    # Rounding of the reciprocal may have taken an agreement a last bit beyond ±1.
    return values.clamp(-1, 1).float(), shares.sum(dim=1) * (-k / pairs)
