"""Differences over seeds: intervals, a permutation test, effect sizes, and the power of the t test.

Tests, intervals and distributions are scipy's, which lacks only effect sizes, Holm's correction and
the power of the t test. With the differences d_1 … d_n of n seeds, d̄ their mean and s their sample
standard deviation (n − 1), the paired quantities are

- t interval: d̄ ± t(0.975; n − 1) · s / √n;
- bootstrap interval of the mean: BCa (Efron 1987) from ``MIN_BCA_SEEDS`` seeds on, percentiles
  below. With few seeds it is too narrow: it cannot leave the range of their values;
- permutation p-value: the share of the 2ⁿ sign choices whose mean is at least as far from 0 as d̄,
  two-sided. It is exact up to ``MAX_EXACT_PERMUTATIONS`` choices, else sampled. With n seeds it is
  never below 2^(1 − n);
- effect size: Cohen's d_z = d̄ / s, and Hedges' g_z = J(n − 1) · d_z, with the small-sample factor
  J(m) = Γ(m/2) / (√(m/2) · Γ((m − 1)/2)) (Hedges 1981).

Unpaired, the interval is Welch's, the permutation test exchanges seeds between the arms, and d
divides by the pooled standard deviation. All differences have the unit of the values.

Power is that of the two-sided t test at 5 %. With δ = d · √n (unpaired d · √(n/2) for n seeds of
each arm) the test statistic is noncentral t with n − 1 (unpaired 2n − 2) degrees of freedom, and
power is its mass beyond ± t(0.975). It takes the observed d for the true one. With few seeds the
observed d tends to be too large, and so does this power.
"""

import math
import warnings
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
MIN_BCA_SEEDS = 5
MAX_EXACT_PERMUTATIONS = 2**14
RESAMPLES = 9999
ALPHA = 0.05
TARGET_POWER = 0.8
MAX_SEEDS = 10_000
MAX_SHIFT = 100.0  # beyond it power is 1 to the last digit, and scipy's sums overflow

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A confidence interval at 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """``second − first`` over seeds. A quantity that needs more seeds than there are is None.

    ``n`` counts pairs of seeds; unpaired, ``n`` and ``n_second`` count the seeds of each arm.
    ``effect`` is d_z or d; ``corrected`` is the same with Hedges' factor.
    """

    mean: float
    n: int
    n_second: int
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
        """Whether there are enough seeds for an interval, but their values do not differ."""
        enough = self.n > 1 if self.paired else min(self.n, self.n_second) > 1
        return enough and self.interval is None


def paired_difference(first: FloatArray, second: FloatArray) -> Difference:
    """Return ``second − first``, seed by seed. Shapes (n,), n ≥ 1, seeds in the same order."""
    assert first.shape == second.shape
    assert first.size
    differences = second - first
    n = differences.size
    mean, std = float(differences.mean()), sample_std(differences)
    effect = None if std is None else mean / std
    p, exact = _permutation_p((differences,), "samples", 2**n) if n > 1 else (None, True)
    bootstrap, method = _bootstrap_interval((differences,)) if std else (None, None)
    return Difference(
        mean=mean, n=n, n_second=n, paired=True, interval=t_interval(differences),
        bootstrap=bootstrap, bootstrap_method=method, p=p, p_is_exact=exact,
        smallest_p=_smallest_p(2.0 ** (1 - n), exact) if n > 1 else None,
        effect=effect, corrected=_hedges_corrected(effect, n - 1),
    )  # fmt: skip


def unpaired_difference(first: FloatArray, second: FloatArray) -> Difference:
    """Return the difference of the means of two arms whose seeds are not paired; each n ≥ 1."""
    assert first.size
    assert second.size
    samples, m, n = (first, second), first.size, second.size
    mean = float(second.mean() - first.mean())
    enough = min(m, n) > 1
    pooled = _pooled_std(first, second) if enough else None
    effect = mean / pooled if pooled else None
    permutations = math.comb(m + n, n)
    p, exact = _permutation_p(samples, "independent", permutations) if enough else (None, True)
    bootstrap, method = _bootstrap_interval(samples) if pooled else (None, None)
    return Difference(
        mean=mean, n=m, n_second=n, paired=False,
        interval=_welch_interval(first, second) if pooled else None,
        bootstrap=bootstrap, bootstrap_method=method, p=p, p_is_exact=exact,
        smallest_p=_smallest_p(2 / permutations, exact) if enough else None,
        effect=effect, corrected=_hedges_corrected(effect, m + n - 2),
    )  # fmt: skip


def sample_std(values: FloatArray) -> float | None:
    """Return the sample standard deviation, or None for one value or values that do not differ.

    Values that differ by rounding errors only count as equal.
    """
    if values.size < 2:
        return None
    std = float(values.std(ddof=1))
    rounding = 1e-12 * float(np.abs(values).max())
    return std if std > rounding else None


def t_interval(values: FloatArray) -> Interval | None:
    """Return the t interval of the mean, or None where :func:`sample_std` is None."""
    if sample_std(values) is None:
        return None
    return _interval(stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE))


def _welch_interval(first: FloatArray, second: FloatArray) -> Interval:
    with warnings.catch_warnings(action="ignore"):  # scipy warns of an arm without spread
        test = stats.ttest_ind(second, first, equal_var=False)
    return _interval(test.confidence_interval(CONFIDENCE))


def _interval(ends: Any) -> Interval:
    return Interval(float(ends.low), float(ends.high))


def _pooled_std(first: FloatArray, second: FloatArray) -> float | None:
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in (first, second))
    pooled = math.sqrt(squares / (first.size + second.size - 2))
    rounding = 1e-12 * float(max(np.abs(first).max(), np.abs(second).max()))
    return pooled if pooled > rounding else None


def _mean_difference(first: Any, second: Any, axis: int = -1) -> Any:
    return np.mean(second, axis=axis) - np.mean(first, axis=axis)


def _permutation_p(
    samples: tuple[FloatArray, ...], kind: Any, permutations: int
) -> tuple[float, bool]:
    """Return the two-sided p-value, and whether it is exact."""
    statistic: Any = np.mean if len(samples) == 1 else _mean_difference
    exact = permutations <= MAX_EXACT_PERMUTATIONS
    test = stats.permutation_test(
        samples, statistic, permutation_type=kind, vectorized=True,
        n_resamples=MAX_EXACT_PERMUTATIONS if exact else RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue), exact


def _smallest_p(p: float, exact: bool) -> float:
    return min(1.0, p if exact else 2 / (RESAMPLES + 1))


def _bootstrap_interval(samples: Any) -> tuple[Interval | None, str | None]:
    """Return the interval and the name of its method."""
    statistic: Any = np.mean if len(samples) == 1 else _mean_difference
    methods: list[Any] = ["percentile"]
    if min(values.size for values in samples) >= MIN_BCA_SEEDS:
        methods = ["BCa", "percentile"]  # percentiles where ties leave BCa undefined
    for method in methods:
        with warnings.catch_warnings(action="ignore"):  # scipy warns of a NaN interval: see below
            ends = stats.bootstrap(
                samples, statistic, confidence_level=CONFIDENCE, n_resamples=RESAMPLES,
                method=method, rng=np.random.default_rng(0), vectorized=True,
            ).confidence_interval  # fmt: skip
        if math.isfinite(ends.low) and math.isfinite(ends.high):
            return _interval(ends), method
    return None, None


def _hedges_corrected(effect: float | None, freedom: int) -> float | None:
    """Return g = J · d, or None for one degree of freedom, where J is undefined."""
    return None if effect is None or freedom < 2 else hedges_factor(freedom) * effect


def hedges_factor(freedom: int) -> float:
    """Return J(m) for m ≥ 2 degrees of freedom."""
    half = freedom / 2
    return math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)


def holm_corrected(p_values: list[float | None]) -> list[float | None]:
    """Return p-values corrected for multiple comparisons (Holm 1979); None stays None, uncounted.

    The k-th smallest of m is multiplied by m − k + 1, and none is smaller than the one before it.
    """
    ascending = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(ascending):
        largest = max(largest, min(1.0, p * (len(ascending) - rank)))
        corrected[index] = largest
    return corrected


def power(effect: float, n: int, paired: bool = True) -> float:
    """Return the probability that n seeds (of each arm) resolve a true effect size d; n ≥ 2."""
    freedom = n - 1 if paired else 2 * n - 2
    shift = min(MAX_SHIFT, abs(effect) * math.sqrt(n if paired else n / 2))
    critical = float(stats.t.ppf(1 - ALPHA / 2, freedom))
    wrong_side = float(stats.nct.cdf(-critical, freedom, shift))
    if math.isnan(wrong_side):  # scipy's answer for some masses that are almost 0
        wrong_side = 0.0
    return float(stats.nct.sf(critical, freedom, shift)) + wrong_side


def seeds_needed(effect: float, paired: bool = True) -> int | None:
    """Return the fewest seeds (of each arm) with 80 % power; None if more than ``MAX_SEEDS``."""
    if effect == 0 or power(effect, MAX_SEEDS, paired) < TARGET_POWER:
        return None
    ns = range(2, MAX_SEEDS)
    return 2 + bisect_left(ns, TARGET_POWER, key=lambda n: power(effect, n, paired))
