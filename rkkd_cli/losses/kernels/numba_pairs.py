"""The ranking loss of float32 logits on the CPU, compiled by numba: one pass over the pairs i < j.

An image is one thread's work from its first pair to its last, in an order that depends on C alone:
its numbers depend neither on the other images nor on the number of threads. The sums of a tile of
pairs are float32, those of an image float64. Nothing assumes finite numbers (no ``nnan``, no
``ninf``); ``contract`` is the fused multiply-add, and only sums over pairs are reassociated.

tanh of all differences of logits has a shorter way, in :mod:`numba_quotients`. Elsewhere φ is a
quotient of polynomials, fitted here to the least relative error, since the C library's functions do
not run in vector registers:

  tanh x = x·P(x²)/Q(x²) for |x| ≤ 8.6, with an error of 4·10⁻⁷, and ±1 from there on;
  arctan x = x·P(x²)/Q(x²) for |x| ≤ 1, with an error of 2·10⁻⁷, and ±π/2 − arctan 1/x beyond.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import compiled, exact, summing
from rkkd_cli.losses.kernels.numba_quotients import apart, quotient_row, split

# Of a tile: its columns stay in the first-level cache, and few rows keep float32 sums exact enough.
ROWS, COLUMNS = 256, 2048

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
# 1 − tanh 8.6 = 7·10⁻⁸ is float32's last bit. There the quotient is above 1, before it is clipped.
SATURATED = np.float32(8.6)
P0, P1, P2, P3, P4 = np.array(
    [0.9999999432577868, 0.13397402169865325, 0.003515494878889989, 2.0974896608248268e-05,
     1.3991551747632861e-08], np.float32,
)  # fmt: skip
Q1, Q2, Q3, Q4 = np.array(
    [0.4673073370543158, 0.025951358637367652, 0.000331953093206593, 8.006089423720271e-07],
    np.float32,
)
A0, A1, A2 = np.array([1.00000005, 0.92076178, 0.14686078], np.float32)
B1, B2, B3 = np.array([1.25409502, 0.36489843, 0.01358557], np.float32)
PER_RIGHT_ANGLE = np.float32(2 / math.pi)


# A comparison with NaN is false: each of the following lets NaN through.
@exact
def clipped(x: Any, limit: Any) -> Any:
    """Return x within ±limit."""
    x = limit if x > limit else x
    return -limit if x < -limit else x


@exact
def tanh(x: Any) -> Any:
    """Return tanh x in float32; never beyond ±1."""
    x = clipped(x, SATURATED)
    z = x * x
    above = x * ((((P4 * z + P3) * z + P2) * z + P1) * z + P0)
    return clipped(above / ((((Q4 * z + Q3) * z + Q2) * z + Q1) * z + ONE), ONE)


@exact
def arctan(x: Any) -> Any:
    """Return 2/π · arctan x in float32; never beyond ±1."""
    size = abs(x)
    w = ONE / size if size > ONE else size
    z = w * w
    angle = PER_RIGHT_ANGLE * w * ((A2 * z + A1) * z + A0) / (((B3 * z + B2) * z + B1) * z + ONE)
    angle = ONE - angle if size > ONE else angle
    return -angle if x < ZERO else angle


@exact
def tanh_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """Return the agreement of a pair, and its slope over k; x = kΔt, y = kΔs, dt = Δt."""
    teacher, student = tanh(x), tanh(y)
    return teacher * student, teacher * (ONE - student * student)


@exact
def softsign_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    teacher, below = x / (ONE + abs(x)), ONE / (ONE + abs(y))
    return teacher * y * below, teacher * below * below


@exact
def arctan_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    teacher = arctan(x)
    return teacher * arctan(y), teacher * PER_RIGHT_ANGLE / (ONE + y * y)


@exact
def tanh_product_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    p = tanh(y * dt)
    return p, (ONE - p * p) * dt


def row_of(pair: Callable[..., Any]) -> Callable[..., Any]:
    """Return the loop of row i over the columns from ``first`` up to ``last``."""

    @summing
    def row(s: Any, t: Any, k: Any, i: Any, first: Any, last: Any, slopes: Any) -> tuple[Any, Any]:
        total, own = ZERO, ZERO
        si, ti = s[i], t[i]
        for n in range(last - first):
            j = np.uintp(first + n)  # unsigned: an index that may be negative is not vectorised
            dt = ti - t[j]
            p, slope = pair(k * dt, k * (si - s[j]), dt)
            total += p
            own += slope
            slopes[j] -= slope
        return total, own

    return row


tanh_row, softsign_row = row_of(tanh_pair), row_of(softsign_pair)
arctan_row, tanh_product_row = row_of(arctan_pair), row_of(tanh_product_pair)


@exact
def any_row(kind: Any, s: Any, t: Any, k: Any, i: Any, first: Any, last: Any, slopes: Any) -> Any:
    """Return the sums of agreements and of slopes of a row of the surrogate's."""
    if kind == 0:
        return tanh_row(s, t, k, i, first, last, slopes)
    if kind == 1:
        return softsign_row(s, t, k, i, first, last, slopes)
    if kind == 2:
        return arctan_row(s, t, k, i, first, last, slopes)
    return tanh_product_row(s, t, k, i, first, last, slopes)


@exact
def image(kind: Any, s: Any, t: Any, k: Any, space: Any, gradient: Any) -> Any:
    """Return Σ of the agreements; add the slopes (over k) to ``gradient``, float64.

    A logit that is not finite makes the sum and its own slope NaN, also where φ has a limit.
    """
    channels = len(s)
    slopes, powers = space
    total = 0.0
    for i in range(channels):
        nothing = (s[i] - s[i]) + (t[i] - t[i])
        total += nothing
        gradient[i] += nothing
    quotients = kind == 0 and total == 0 and apart(s, k) and apart(t, k)
    if quotients:
        split(s, k, powers[0], powers[1])
        split(t, k, powers[2], powers[3])
    for top in range(0, channels, ROWS):
        bottom = min(top + ROWS, channels)
        slopes[:] = ZERO
        for left in range(top, channels, COLUMNS):
            right = min(left + COLUMNS, channels)
            for i in range(top, bottom):
                first = max(i + 1, left)
                if first >= right:
                    continue
                if quotients:
                    agreed, own = quotient_row(powers, i, first, right, slopes)
                else:
                    agreed, own = any_row(kind, s, t, k, i, first, right, slopes)
                total += agreed
                gradient[i] += own
        for i in range(top, channels):
            gradient[i] += slopes[i]
    return total


@compiled(
    "void(int64, float32[:, ::1], float32[:, ::1], float64, float32[::1], float32[:, ::1], "
    "int64, int64)"
)
def images(
    kind: Any, s: Any, t: Any, k: Any, values: Any, gradients: Any, first: Any, last: Any
) -> None:
    """Write the loss and its gradient of the images from ``first`` up to ``last``.

    Args:
        kind: The surrogate's place in ``COMPILED`` (surrogates.py).
        s: Student logits, (B, C).
        t: Teacher logits, (B, C).
        k: The steepness.
        values: The loss of each image, (B,).
        gradients: Its gradient by the student's logits, (B, C).
        first: The first image.
        last: The image after the last one.
    """
    channels = s.shape[1]
    pairs = channels * (channels - 1) / 2
    gradient = np.empty(channels)
    space = (np.empty(channels, np.float32), np.empty((4, channels), np.int32))
    for b in range(first, last):
        gradient[:] = 0
        total = image(kind, s[b], t[b], np.float32(k), space, gradient)
        values[b] = -total / pairs
        for i in range(channels):
            gradients[b, i] = -k / pairs * gradient[i]
