"""tanh of all differences of logits with one exponential a logit instead of one a pair.

  tanh(k(a − b)) = (A − B)/(A + B),  A = exp(2ka) = m·2ⁿ,  m in [√½, √2]

m and n are kept apart, so that nothing overflows however large k·a is: only n_a − n_b enters, and
where it is beyond ±30 the quotient is ±1 in float32. Ties give 0. Rounding m costs 6·10⁻⁸ of the
quotient's 1, which is much of a small quotient: where all differences are small (not
:func:`apart`), :mod:`numba_pairs` computes tanh itself.
"""

import math
from typing import Any

import numpy as np

from rkkd_cli.losses.kernels.compiled import exact, summing

ZERO, ONE = np.float32(0), np.float32(1)
MOST, LEAST, EXPONENT = np.int32(30), np.int32(-30), np.int32(23)  # of float32: 23 bits below it
POWERS_OF_LN2 = tuple(math.log(2) ** n / math.factorial(n) for n in range(9))
C0, C1, C2, C3, C4, C5, C6, C7, C8 = POWERS_OF_LN2
PER_LOGIT = 2 / math.log(2)


@exact
def apart(x: Any, k: Any) -> Any:
    """Tell whether the finite logits' k·range is above ½, and n fits an int32."""
    low, high = x[0], x[0]
    for value in x:
        low, high = min(low, value), max(high, value)
    return k * (high - low) > 0.5 and k * max(abs(low), abs(high)) < 1e8


@exact
def split(x: Any, k: Any, m: Any, n: Any) -> None:
    """Write the bits of m in float32, and n, of exp(2k·x)."""
    for i in range(len(x)):
        y = PER_LOGIT * np.float64(k) * np.float64(x[i])
        whole = np.floor(y + 0.5)
        f = y - whole
        power = (((((((C8 * f + C7) * f + C6) * f + C5) * f + C4) * f + C3) * f + C2) * f) + C1
        m[i] = np.float32(power * f + C0).view(np.int32)
        n[i] = np.int32(whole)


@exact
def scaled(m: Any, n: Any) -> Any:
    """Return m·2ⁿ of the bits of m, with n within ±30."""
    n = MOST if n > MOST else n
    n = LEAST if n < LEAST else n
    return np.int32(m + np.int32(n << EXPONENT)).view(np.float32)


@summing
def quotient_row(powers: Any, i: Any, first: Any, last: Any, slopes: Any) -> tuple[Any, Any]:
    """As a row of numba_pairs; ``powers`` are m and n of the student, and of the teacher."""
    s_m, s_n, t_m, t_n = powers[0], powers[1], powers[2], powers[3]
    student_i, teacher_i = scaled(s_m[i], np.int32(0)), scaled(t_m[i], np.int32(0))
    n_student, n_teacher = s_n[i], t_n[i]
    total, own = ZERO, ZERO
    for place in range(last - first):
        j = np.uintp(first + place)  # unsigned: an index that may be negative is not vectorised
        b = scaled(s_m[j], np.int32(s_n[j] - n_student))
        student = (student_i - b) / (student_i + b)
        b = scaled(t_m[j], np.int32(t_n[j] - n_teacher))
        teacher = (teacher_i - b) / (teacher_i + b)
        slope = teacher * (ONE - student * student)
        total += teacher * student
        own += slope
        slopes[j] -= slope
    return total, own
