"""How many seeds would resolve a difference: the power of the two-sided t test at 5 %.

With δ = d · √n (paired; per arm d · √(n/2)) the test statistic is noncentral t with n − 1 (2n − 2)
degrees of freedom; power is the mass beyond ± t(0.975). The observed d is taken for the true one,
which it is not: of few seeds it tends to be too large, and then so is the hope.
"""

import math

from scipy import stats

ALPHA = 0.05
WANTED = 0.8
MOST = 10_000
SURE = 100.0  # a shift from which power is 1 to the last digit, and scipy's sums stay finite


def power(effect: float, n: int, paired: bool = True) -> float:
    """Return the chance that n seeds (of each arm) resolve a true effect d; n ≥ 2."""
    freedom = n - 1 if paired else 2 * n - 2
    shift = min(SURE, abs(effect) * math.sqrt(n if paired else n / 2))
    edge = float(stats.t.ppf(1 - ALPHA / 2, freedom))
    wrong_side = float(stats.nct.cdf(-edge, freedom, shift))
    if math.isnan(wrong_side):  # what scipy gives for some masses that are next to nothing
        wrong_side = 0.0
    return float(stats.nct.sf(edge, freedom, shift)) + wrong_side


def seeds_for(effect: float, paired: bool = True) -> int | None:
    """Return the fewest seeds (of each arm) with a power of 80 %; None if more than ``MOST``."""
    if effect == 0 or power(effect, MOST, paired) < WANTED:
        return None
    low, high = 1, 2
    while power(effect, high, paired) < WANTED:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, paired) >= WANTED else (middle, high)
    return high
