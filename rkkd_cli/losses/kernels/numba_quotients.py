"""tanh of all differences of logits with one exponential for each logit, not for each pair.

  tanh(k(a − b)) = (A − B)/(A + B),  A = exp(2ka) = m·2ⁿ,  m in [√½, √2]

m and n are stored separately, so large k·a do not overflow: only n_a − n_b is used, and beyond ±30
the quotient is ±1 in float32. Ties give 0. Rounding m has an absolute error of 6·10⁻⁸, which is
much of a small quotient. If all differences are small (not :func:`are_spread_out`),
:mod:`numba_pairs` therefore computes tanh directly.
"""

import math
from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import exact, summing

ZERO, ONE = np.float32(0), np.float32(1)
MAX_EXPONENT, MIN_EXPONENT = np.int32(30), np.int32(-30)
MANTISSA_BITS = np.int32(23)  # of a float32; its exponent is in the bits above
POWERS_OF_LN2 = tuple(math.log(2) ** n / math.factorial(n) for n in range(9))
C0, C1, C2, C3, C4, C5, C6, C7, C8 = POWERS_OF_LN2
TWO_OVER_LN2 = 2 / math.log(2)


@exact
def are_spread_out(x: Any, k: Any) -> Any:
    """Return whether k · (max x − min x) is above ½, and n fits an int32; x must be finite."""
    low, high = x[0], x[0]
    for value in x:
        low, high = min(low, value), max(high, value)
    return k * (high - low) > 0.5 and k * max(abs(low), abs(high)) < 1e8


@exact
def split_powers(x: Any, k: Any, m: Any, n: Any) -> None:
    """Write exp(2k·x) = m·2ⁿ: the bits of m as a float32, and n."""
    for i in range(len(x)):
        y = TWO_OVER_LN2 * np.float64(k) * np.float64(x[i])
        whole = np.floor(y + 0.5)
        f = y - whole
        power = (((((((C8 * f + C7) * f + C6) * f + C5) * f + C4) * f + C3) * f + C2) * f) + C1
        m[i] = np.float32(power * f + C0).view(np.int32)
        n[i] = np.int32(whole)


@exact
def join_power(m: Any, n: Any) -> Any:
    """Return m·2ⁿ, given the bits of m, with n clipped to ±30."""
    n = MAX_EXPONENT if n > MAX_EXPONENT else n
    n = MIN_EXPONENT if n < MIN_EXPONENT else n
    return np.int32(m + np.int32(n << MANTISSA_BITS)).view(np.float32)


@summing
def quotient_row(powers: Any, i: Any, first: Any, last: Any, slopes: Any) -> tuple[Any, Any]:
    """As a ``row_loop`` of tanh; ``powers`` are m and n of the student, then of the teacher."""
    s_m, s_n, t_m, t_n = powers[0], powers[1], powers[2], powers[3]
    student_i, teacher_i = join_power(s_m[i], np.int32(0)), join_power(t_m[i], np.int32(0))
    n_student, n_teacher = s_n[i], t_n[i]
    agreement, row_slope = ZERO, ZERO
    for column in range(last - first):
        j = np.uintp(first + column)  # unsigned: a loop over a signed index is not vectorised
        b = join_power(s_m[j], np.int32(s_n[j] - n_student))
        student = (student_i - b) / (student_i + b)
        b = join_power(t_m[j], np.int32(t_n[j] - n_teacher))
        teacher = (teacher_i - b) / (teacher_i + b)
        slope = teacher * (ONE - student * student)
        agreement += teacher * student
        row_slope += slope
        slopes[j] -= slope
    return agreement, row_slope
