"""How sure a difference over seeds is: intervals, an exact test, effect size; and how many seeds
would resolve it: the power of the t test.

All distributions are scipy's. With the differences d_1 … d_n of n seeds, d̄ their mean and s their
sample standard deviation (n − 1), the paired quantities are

- t interval: d̄ ± t(0.975; n − 1) · s / √n;
- bootstrap interval: of the mean of resampled seeds, BCa (Efron 1987) from ``BCA_FROM`` seeds on,
  percentiles below. Of few seeds it is too narrow: it cannot leave their range;
- permutation p-value: the share of the 2ⁿ choices of signs whose mean lies as far out as d̄, two-
  sided; exact up to ``EXHAUSTIVE`` of them, else sampled; n seeds cannot give less than 2^(1 − n);
- effect size: Cohen's d_z = d̄ / s, and Hedges' g_z = J(n − 1) · d_z, with the small-sample factor
  J(m) = Γ(m/2) / (√(m/2) · Γ((m − 1)/2)) (Hedges 1981).

Unpaired: the interval is Welch's, the p-value that of exchanging seeds between the arms, and d is
by the pooled deviation. Everything is in the unit of the values.

Power is that of the two-sided t test at 5 %. With δ = d · √n (paired; per arm d · √(n/2)) the
test statistic is noncentral t with n − 1 (2n − 2) degrees of freedom; power is the mass beyond
± t(0.975). The observed d is taken for the true one, which it is not: of few seeds it tends to be
too large, and then so is the hope.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

LEVEL = 0.95
BCA_FROM = 5
EXHAUSTIVE = 2**14
RESAMPLES = 9999
ALPHA = 0.05
WANTED = 0.8
MOST = 10_000
SURE = 100.0  # a shift from which power is 1 to the last digit, and scipy's sums stay finite

Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A confidence interval at 95 %."""

    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Tell whether the sign is open."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Difference:
    """``other − one`` over seeds; None is what so few seeds do not have.

    ``n`` are the pairs; unpaired, ``n`` and ``n_other`` are the seeds of the two arms. ``effect``
    is d_z or d, ``corrected`` has Hedges' factor.
    """

    mean: float
    n: int
    n_other: int
    paired: bool
    interval: Interval | None
    bootstrap: Interval | None
    bootstrap_method: str | None
    p: float | None
    p_is_exact: bool
    smallest_p: float | None
    effect: float | None
    corrected: float | None

    @property
    def is_flat(self) -> bool:
        """Tell whether there are seeds enough, but no spread to estimate an interval from."""
        enough = self.n > 1 if self.paired else min(self.n, self.n_other) > 1
        return enough and self.interval is None


def paired_difference(one: Values, other: Values) -> Difference:
    """Return ``other − one``, seed by seed. Values (n,), n ≥ 1, in the same order of seeds."""
    assert one.shape == other.shape
    assert one.size
    differences = other - one
    n = differences.size
    mean, spread = float(differences.mean()), deviation(differences)
    effect = None if spread is None else mean / spread
    p, exact = _permuted((differences,), "samples", 2**n) if n > 1 else (None, True)
    resampled, method = _bootstrap((differences,)) if spread else (None, None)
    return Difference(
        mean=mean, n=n, n_other=n, paired=True, interval=t_interval(differences),
        bootstrap=resampled, bootstrap_method=method, p=p, p_is_exact=exact,
        smallest_p=_smallest(2.0 ** (1 - n), exact) if n > 1 else None,
        effect=effect, corrected=_corrected(effect, n - 1),
    )  # fmt: skip


def unpaired_difference(one: Values, other: Values) -> Difference:
    """Return the difference of the means of seeds that do not belong together; each n ≥ 1."""
    assert one.size
    assert other.size
    m, n = one.size, other.size
    mean = float(other.mean() - one.mean())
    enough = min(m, n) > 1
    pooled = _pooled(one, other) if enough else None
    effect = mean / pooled if pooled else None
    ways = math.comb(m + n, n)
    p, exact = _permuted((one, other), "independent", ways) if enough else (None, True)
    resampled, method = _bootstrap((one, other)) if pooled else (None, None)
    return Difference(
        mean=mean, n=m, n_other=n, paired=False, interval=_welch(one, other) if pooled else None,
        bootstrap=resampled, bootstrap_method=method, p=p, p_is_exact=exact,
        smallest_p=_smallest(2 / ways, exact) if enough else None,
        effect=effect, corrected=_corrected(effect, m + n - 2),
    )  # fmt: skip


def deviation(values: Values) -> float | None:
    """Return the sample standard deviation; None where the values do not differ or are alone.

    Values that differ by no more than rounding do not differ.
    """
    if values.size < 2:
        return None
    spread = float(values.std(ddof=1))
    rounding = 1e-12 * float(np.abs(values).max())
    return spread if spread > rounding else None


def t_interval(values: Values) -> Interval | None:
    """Return the t interval of the mean; None where :func:`deviation` is."""
    spread = deviation(values)
    if spread is None:
        return None
    n = values.size
    low, high = stats.t.interval(LEVEL, n - 1, loc=values.mean(), scale=spread / math.sqrt(n))
    return Interval(float(low), float(high))


def _welch(one: Values, other: Values) -> Interval:
    """Return Welch's interval, with the degrees of freedom of Welch and Satterthwaite."""
    errors = [float(part.var(ddof=1)) / part.size for part in (one, other)]
    squares = [e**2 / (part.size - 1) for e, part in zip(errors, (one, other), strict=True)]
    freedom = sum(errors) ** 2 / sum(squares)
    gap = float(other.mean() - one.mean())
    low, high = stats.t.interval(LEVEL, freedom, loc=gap, scale=math.sqrt(sum(errors)))
    return Interval(float(low), float(high))


def _pooled(one: Values, other: Values) -> float | None:
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in (one, other))
    pooled = math.sqrt(squares / (one.size + other.size - 2))
    rounding = 1e-12 * float(max(np.abs(one).max(), np.abs(other).max()))
    return pooled if pooled > rounding else None


def _mean_difference(one: Any, other: Any, axis: int = -1) -> Any:
    return np.mean(other, axis=axis) - np.mean(one, axis=axis)


def _permuted(samples: tuple[Values, ...], kind: Any, ways: int) -> tuple[float, bool]:
    statistic: Any = np.mean if len(samples) == 1 else _mean_difference
    exact = ways <= EXHAUSTIVE
    tested = stats.permutation_test(
        samples, statistic, permutation_type=kind, vectorized=True,
        n_resamples=EXHAUSTIVE if exact else RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(tested.pvalue), exact


def _smallest(p: float, exact: bool) -> float:
    return min(1.0, p if exact else 2 / (RESAMPLES + 1))


def _bootstrap(samples: Any) -> tuple[Interval | None, str | None]:
    statistic: Any = np.mean if len(samples) == 1 else _mean_difference
    methods: list[Any] = ["percentile"]
    if min(part.size for part in samples) >= BCA_FROM:
        methods = ["BCa", "percentile"]  # the second where values coincide too much for the first
    for method in methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says in words that the interval is NaN
            found = stats.bootstrap(
                samples, statistic, confidence_level=LEVEL, n_resamples=RESAMPLES,
                method=method, rng=np.random.default_rng(0), vectorized=True,
            ).confidence_interval  # fmt: skip
        if math.isfinite(found.low) and math.isfinite(found.high):
            return Interval(float(found.low), float(found.high)), method
    return None, None


def _corrected(effect: float | None, freedom: int) -> float | None:
    """Return g = J · d; one degree of freedom has no J."""
    return None if effect is None or freedom < 2 else hedges_factor(freedom) * effect


def hedges_factor(freedom: int) -> float:
    """Return J(m) for m ≥ 2 degrees of freedom."""
    half = freedom / 2
    return math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)


def holm(p_values: list[float | None]) -> list[float | None]:
    """Return p-values corrected for being looked at together (Holm 1979); None stays, uncounted.

    The k-th smallest of m is multiplied by m − k + 1, and none is smaller than the one before.
    """
    given = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(given):
        largest = max(largest, min(1.0, p * (len(given) - rank)))
        corrected[place] = largest
    return corrected


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
