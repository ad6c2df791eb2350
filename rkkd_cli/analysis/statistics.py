"""Differences over seeds: intervals, a permutation test, effect sizes, and the power of the t test.

Tests, intervals and distributions are scipy's, which lacks only effect sizes, Holm's correction and
the power of the t test. With the differences d_1 … d_n of n seeds, d̄ their mean and s their sample
standard deviation (n − 1), the paired quantities are

- t interval: d̄ ± t(0.975; n − 1) · s / √n, and p of the t test with the same error, which is below
  5 % exactly if 0 lies outside of the interval. Verdicts rest on it: see :data:`MIN_SEEDS`;
- bootstrap interval of the mean: BCa (Efron 1987) from ``MIN_BCA_SEEDS`` seeds on, percentiles
  below. With few seeds it is too narrow: it cannot leave the range of their values;
- permutation p-value: the share of the 2ⁿ sign choices whose mean is at least as far from 0 as d̄,
  two-sided. It is exact up to ``MAX_EXACT_PERMUTATIONS`` choices, else sampled. With n seeds it is
  never below 2^(1 − n);
- effect size: Cohen's d_z = d̄ / s, and Hedges' g_z = J(n − 1) · d_z, with the small-sample factor
  J(m) = Γ(m/2) / (√(m/2) · Γ((m − 1)/2)) (Hedges 1981).

Unpaired, interval and t test are Welch's, the permutation test exchanges seeds between the arms,
and d divides by the pooled standard deviation. All differences have the unit of the values.

A rank correlation ρ is at most 1 and its errors are skewed, so its seeds are averaged as Fisher's
z = artanh ρ (Fisher 1915): see :func:`correlation_t_test`.

Power is that of the two-sided t test at the level α. With δ = d · √n (unpaired d · √(n/2) for n
seeds of each arm) the test statistic is noncentral t with n − 1 (unpaired 2n − 2) degrees of
freedom, and power is its mass beyond ± t(1 − α/2). It takes the observed d for the true one. With
few seeds the observed d tends to be too large, and so does this power.
"""

import math
import warnings
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
MIN_SEEDS = 3  # for a verdict: of two seeds the t interval has one degree of freedom
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
class TTest:
    """A mean over seeds with its standard error, and the degrees of freedom of that."""

    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> Interval:
        """The t interval."""
        half = self.error * float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom))
        return Interval(self.mean - half, self.mean + half)

    def p(self, than: float = 0.0) -> float:
        """Return the two-sided p-value of a true mean of ``than``."""
        return float(2 * stats.t.sf(abs(self.mean - than) / self.error, self.freedom))


@dataclass(frozen=True)
class Difference:
    """``second − first`` over seeds. A quantity that needs more seeds than there are is None.

    ``n`` counts pairs of seeds; unpaired, ``n`` and ``n_second`` count the seeds of each arm.
    ``effect`` is d_z or d; ``corrected`` is the same with Hedges' factor. ``smallest_p`` is the
    smallest ``permutation_p`` that so many seeds can have.
    """

    mean: float
    n: int
    n_second: int
    paired: bool
    t_test: TTest | None
    bootstrap: Interval | None
    bootstrap_method: str | None
    permutation_p: float | None
    is_exact: bool
    smallest_p: float | None
    effect: float | None
    corrected: float | None

    @property
    def interval(self) -> Interval | None:
        """The t interval."""
        return None if self.t_test is None else self.t_test.interval

    @property
    def p(self) -> float | None:
        """The p-value of the t test."""
        return None if self.t_test is None else self.t_test.p()

    @property
    def is_flat(self) -> bool:
        """Whether there are enough seeds for an interval, but their values do not differ."""
        return min(self.n, self.n_second) > 1 and self.t_test is None


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
        mean=mean, n=n, n_second=n, paired=True, t_test=t_test(differences),
        bootstrap=bootstrap, bootstrap_method=method, permutation_p=p, is_exact=exact,
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
        t_test=_welch_test(first, second) if pooled else None,
        bootstrap=bootstrap, bootstrap_method=method, permutation_p=p, is_exact=exact,
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


def t_test(values: FloatArray) -> TTest | None:
    """Return the t test of the mean, or None where :func:`sample_std` is None."""
    std = sample_std(values)
    if std is None:
        return None
    return TTest(float(values.mean()), std / math.sqrt(values.size), values.size - 1)


def correlation_t_test(correlations: FloatArray, points: int) -> TTest | None:
    """Return the t test of the mean Fisher z of rank correlations; tanh turns z into ρ.

    Spearman's ρ of ``points`` points without ties has steps of 12 / (points³ − points). A ρ of 1
    stands for the half step below it, whose z is finite, and seeds that agree are taken to vary by
    half a step. None for one seed.
    """
    if correlations.size < 2:
        return None
    half_step = 6 / (points**3 - points)
    z = np.arctanh(np.clip(correlations, half_step - 1, 1 - half_step))
    mean = float(z.mean())
    std = max(float(z.std(ddof=1)), half_step / (1 - math.tanh(mean) ** 2))
    return TTest(mean, std / math.sqrt(z.size), z.size - 1)


def _welch_test(first: FloatArray, second: FloatArray) -> TTest:
    with warnings.catch_warnings(action="ignore"):  # scipy warns of an arm without spread
        freedom = stats.ttest_ind(second, first, equal_var=False).df
    error = math.sqrt(sum(float(values.var(ddof=1)) / values.size for values in (first, second)))
    return TTest(float(second.mean() - first.mean()), error, float(freedom))


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
            return Interval(float(ends.low), float(ends.high)), method
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


def power(effect: float, n: int, paired: bool = True, alpha: float = ALPHA) -> float:
    """Return the probability that n seeds (of each arm) resolve a true effect size d; n ≥ 2."""
    freedom = n - 1 if paired else 2 * n - 2
    shift = min(MAX_SHIFT, abs(effect) * math.sqrt(n if paired else n / 2))
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))
    wrong_side = float(stats.nct.cdf(-critical, freedom, shift))
    if math.isnan(wrong_side):  # scipy's answer for some masses that are almost 0
        wrong_side = 0.0
    return float(stats.nct.sf(critical, freedom, shift)) + wrong_side


def seeds_needed(effect: float, paired: bool = True, alpha: float = ALPHA) -> int | None:
    """Return the fewest seeds (of each arm) with 80 % power; None if more than ``MAX_SEEDS``."""
    if effect == 0 or power(effect, MAX_SEEDS, paired, alpha) < TARGET_POWER:
        return None
    ns = range(MIN_SEEDS, MAX_SEEDS + 1)
    return ns[bisect_left(ns, TARGET_POWER, key=lambda n: power(effect, n, paired, alpha))]
