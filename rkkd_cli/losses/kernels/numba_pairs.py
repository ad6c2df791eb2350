"""The ranking loss of float32 logits on the CPU, compiled by numba: one pass over the pairs i < j.

One thread computes an image, from its first pair to its last, in an order that depends on C alone.
So an image's numbers depend neither on the other images nor on the number of threads. Sums within a
tile of pairs are float32, sums of an image float64. The compiler may fuse multiplications with
additions and reorder sums over pairs; it may not assume that numbers are finite.

For tanh :mod:`numba_quotients` has a faster way, where it is accurate. Otherwise φ is a quotient of
polynomials with the least relative error, because the C library's functions do not vectorise:

  tanh x = x·P(x²)/Q(x²) for |x| ≤ 8.6, with an error of 4·10⁻⁷, and ±1 from there on;
  arctan x = x·P(x²)/Q(x²) for |x| ≤ 1, with an error of 2·10⁻⁷, and ±π/2 − arctan 1/x beyond.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import compiled, exact, summing
from rkkd_cli.losses.kernels.numba_quotients import are_spread_out, quotient_row, split_powers

# The size of a tile: its columns stay in the first-level cache, and with few rows float32 sums are
# accurate enough.
TILE_ROWS, TILE_COLUMNS = 256, 2048

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
# 1 − tanh 8.6 = 7·10⁻⁸ is float32's last bit. At 8.6 the quotient exceeds 1 and is clipped.
SATURATION = np.float32(8.6)
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
TWO_OVER_PI = np.float32(2 / math.pi)


# A comparison with NaN is false, so each of the following functions returns NaN for NaN.
@exact
def clipped(x: Any, limit: Any) -> Any:
    """Return x, clipped to ±limit."""
    x = limit if x > limit else x
    return -limit if x < -limit else x


@exact
def tanh(x: Any) -> Any:
    """Return tanh x in float32; never beyond ±1."""
    x = clipped(x, SATURATION)
    z = x * x
    numerator = x * ((((P4 * z + P3) * z + P2) * z + P1) * z + P0)
    return clipped(numerator / ((((Q4 * z + Q3) * z + Q2) * z + Q1) * z + ONE), ONE)


@exact
def arctan(x: Any) -> Any:
    """Return 2/π · arctan x in float32; never beyond ±1."""
    size = abs(x)
    w = ONE / size if size > ONE else size
    z = w * w
    angle = TWO_OVER_PI * w * ((A2 * z + A1) * z + A0) / (((B3 * z + B2) * z + B1) * z + ONE)
    angle = ONE - angle if size > ONE else angle
    return -angle if x < ZERO else angle


@exact
def tanh_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """Return the agreement of a pair and its slope divided by k; x = kΔt, y = kΔs, dt = Δt."""
    teacher, student = tanh(x), tanh(y)
    return teacher * student, teacher * (ONE - student * student)


@exact
def softsign_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    teacher, reciprocal = x / (ONE + abs(x)), ONE / (ONE + abs(y))
    return teacher * y * reciprocal, teacher * reciprocal * reciprocal


@exact
def arctan_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    teacher = arctan(x)
    return teacher * arctan(y), teacher * TWO_OVER_PI / (ONE + y * y)


@exact
def tanh_product_pair(x: Any, y: Any, dt: Any) -> tuple[Any, Any]:
    """As :func:`tanh_pair`."""
    p = tanh(y * dt)
    return p, (ONE - p * p) * dt


def row_loop(pair: Callable[..., Any]) -> Callable[..., Any]:
    """Return a compiled loop of row i over the columns from ``first`` up to ``last``.

    It returns the row's sums of agreements and of slopes, and subtracts each slope from
    ``slopes`` at its column.
    """

    @summing
    def row(s: Any, t: Any, k: Any, i: Any, first: Any, last: Any, slopes: Any) -> tuple[Any, Any]:
        agreement, row_slope = ZERO, ZERO
        si, ti = s[i], t[i]
        for n in range(last - first):
            j = np.uintp(first + n)  # unsigned: a loop over a signed index is not vectorised
            dt = ti - t[j]
            p, slope = pair(k * dt, k * (si - s[j]), dt)
            agreement += p
            row_slope += slope
            slopes[j] -= slope
        return agreement, row_slope

    return row


tanh_row, softsign_row = row_loop(tanh_pair), row_loop(softsign_pair)
arctan_row, tanh_product_row = row_loop(arctan_pair), row_loop(tanh_product_pair)


@exact
def surrogate_row(
    surrogate: Any, s: Any, t: Any, k: Any, i: Any, first: Any, last: Any, slopes: Any
) -> Any:
    """Call the surrogate's :func:`row_loop`."""
    if surrogate == 0:
        return tanh_row(s, t, k, i, first, last, slopes)
    if surrogate == 1:
        return softsign_row(s, t, k, i, first, last, slopes)
    if surrogate == 2:
        return arctan_row(s, t, k, i, first, last, slopes)
    return tanh_product_row(s, t, k, i, first, last, slopes)


@exact
def sum_image(surrogate: Any, s: Any, t: Any, k: Any, workspace: Any, gradient: Any) -> Any:
    """Return an image's sum of agreements; add its slopes, divided by k, to ``gradient``.

    A logit that is not finite makes the sum and its own slope NaN, also where φ has a limit.
    """
    classes = len(s)
    slopes, powers = workspace
    total = 0.0
    for i in range(classes):
        zero_or_nan = (s[i] - s[i]) + (t[i] - t[i])
        total += zero_or_nan
        gradient[i] += zero_or_nan
    use_quotients = surrogate == 0 and total == 0 and are_spread_out(s, k) and are_spread_out(t, k)
    if use_quotients:
        split_powers(s, k, powers[0], powers[1])
        split_powers(t, k, powers[2], powers[3])
    for top in range(0, classes, TILE_ROWS):
        bottom = min(top + TILE_ROWS, classes)
        slopes[:] = ZERO
        for left in range(top, classes, TILE_COLUMNS):
            right = min(left + TILE_COLUMNS, classes)
            for i in range(top, bottom):
                first = max(i + 1, left)
                if first >= right:
                    continue
                if use_quotients:
                    agreement, row_slope = quotient_row(powers, i, first, right, slopes)
                else:
                    agreement, row_slope = surrogate_row(
                        surrogate, s, t, k, i, first, right, slopes
                    )
                total += agreement
                gradient[i] += row_slope
        for i in range(top, classes):
            gradient[i] += slopes[i]
    return total


@compiled(
    "void(int64, float32[:, ::1], float32[:, ::1], int64[::1], float64, float32[::1], "
    "float32[:, ::1], int64, int64)"
)
def losses_and_gradients(
    surrogate: Any, s: Any, t: Any, counts: Any, k: Any, losses: Any, gradients: Any, first: Any,
    last: Any,
) -> None:  # fmt: skip
    """Write the loss and the gradient of the images from ``first`` up to ``last``.

    Args:
        surrogate: An index into ``COMPILED_SURROGATES``.
        s: The student's logits, (B, C).
        t: The teacher's logits, (B, C).
        counts: How many of each image's entries are ranked, (B,).
        k: The steepness.
        losses: The loss of each image, (B,).
        gradients: Its gradient by the student's logits, (B, C).
        first: The first image.
        last: The image after the last one.
    """
    classes = s.shape[1]
    gradient = np.empty(classes)
    workspace = (np.empty(classes, np.float32), np.empty((4, classes), np.int32))
    for b in range(first, last):
        count = counts[b]
        pairs = count * (count - 1) / 2
        gradient[:] = 0
        total = sum_image(surrogate, s[b, :count], t[b, :count], np.float32(k), workspace, gradient)
        losses[b] = -total / pairs
        for i in range(classes):
            gradients[b, i] = -k / pairs * gradient[i]
