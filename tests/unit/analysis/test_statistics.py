"""Differences over seeds: by hand, by enumeration, by scipy's tests, and what few seeds lack.

And how many seeds would do: published sample sizes, simulation, and monotony.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rkkd_cli.analysis.statistics import (
    MAX_SEEDS,
    MIN_BCA_SEEDS,
    MIN_SEEDS,
    TARGET_POWER,
    Interval,
    correlation_t_test,
    hedges_factor,
    holm_corrected,
    paired_difference,
    power,
    seeds_needed,
    t_test,
    unpaired_difference,
)

ONE = np.array([33.24, 33.70, 33.66])
OTHER = np.array([34.34, 33.86, 33.80])  # +1.10, +0.16, +0.14

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
samples = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=7)


def columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=float)
    return table[:, 0], table[:, 1]


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def test_three_seeds_by_hand() -> None:
    found = paired_difference(ONE, OTHER)
    mean = (1.10 + 0.16 + 0.14) / 3
    spread = math.sqrt(sum((d - mean) ** 2 for d in (1.10, 0.16, 0.14)) / 2)
    half = 4.302652730 * spread / math.sqrt(3)  # t(0.975; 2)
    assert (found.n, found.paired) == (3, True)
    assert found.mean == pytest.approx(mean)
    assert ends(found.interval) == pytest.approx((mean - half, mean + half))
    assert found.effect == pytest.approx(mean / spread)
    # J(2) = Γ(1) / (√1 · Γ(1/2)) = 1/√π
    assert found.corrected == pytest.approx(mean / spread / math.sqrt(math.pi))
    # all three are positive: the two extreme choices of signs out of eight
    assert (found.permutation_p, found.smallest_p, found.is_exact) == (0.25, 0.25, True)
    assert found.p == pytest.approx(stats.ttest_rel(OTHER, ONE).pvalue)


@given(samples)
@settings(max_examples=40)
def test_the_interval_is_that_of_students_t(pairs: list[tuple[float, float]]) -> None:
    one, other = columns(pairs)
    found = paired_difference(one, other)
    if found.interval is None:
        assert found.is_flat
        assert np.ptp(other - one) < 1e-9
        return
    n = len(pairs)
    half = stats.t.ppf(0.975, n - 1) * np.std(other - one, ddof=1) / math.sqrt(n)
    wanted = (found.mean - half, found.mean + half)
    assert ends(found.interval) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
@settings(max_examples=40)
def test_the_permutation_p_is_that_of_all_signs(differences: list[int]) -> None:
    values = np.array(differences, dtype=float)
    found = paired_difference(np.zeros(len(values)), values)
    sums = [
        sum(sign * d for sign, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    above = sum(one >= sum(differences) for one in sums) / len(sums)
    below = sum(one <= sum(differences) for one in sums) / len(sums)
    assert found.permutation_p == pytest.approx(min(1.0, 2 * min(above, below)))
    assert found.is_exact
    assert found.smallest_p == 2.0 ** (1 - len(values))
    assert found.smallest_p is not None
    assert found.smallest_p <= (found.permutation_p or 0)


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=4),
    st.lists(st.integers(-20, 20), min_size=2, max_size=4),
)
@settings(max_examples=30)
def test_unpaired_the_p_is_that_of_all_exchanges(one: list[int], other: list[int]) -> None:
    found = unpaired_difference(np.array(one, dtype=float), np.array(other, dtype=float))
    pooled, n = [*one, *other], len(other)
    gaps = []
    for places in itertools.combinations(range(len(pooled)), n):
        inside = sum(pooled[place] for place in places)
        gaps.append(round(inside / n - (sum(pooled) - inside) / len(one), 9))
    observed = round(sum(other) / n - sum(one) / len(one), 9)
    above = sum(gap >= observed for gap in gaps) / len(gaps)
    below = sum(gap <= observed for gap in gaps) / len(gaps)
    assert found.permutation_p == pytest.approx(min(1.0, 2 * min(above, below)))
    assert found.smallest_p is not None
    assert found.smallest_p <= (found.permutation_p or 0)


@given(samples, st.floats(-50, 50))
@settings(max_examples=40)
def test_p_is_below_5_percent_where_the_value_lies_outside_of_the_interval(
    pairs: list[tuple[float, float]], than: float
) -> None:
    one, other = columns(pairs)
    for found in (paired_difference(one, other), unpaired_difference(one, other)):
        if found.t_test is not None:
            low, high = ends(found.interval)
            assert (found.t_test.p(than) < 0.05) == (not low <= than <= high)


def test_correlations_are_averaged_as_fishers_z() -> None:
    rho = np.array([0.90, 0.95, 0.97])
    found = correlation_t_test(rho, points=30)
    assert found is not None
    z = np.arctanh(rho)
    half = stats.t.ppf(0.975, 2) * z.std(ddof=1) / math.sqrt(3)
    assert ends(found.interval) == pytest.approx((z.mean() - half, z.mean() + half))
    assert found.p() == pytest.approx(stats.ttest_1samp(z, 0).pvalue)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.integers(3, 240))
@settings(max_examples=40)
def test_the_interval_of_a_correlation_never_passes_1(rho: list[float], points: int) -> None:
    found = correlation_t_test(np.array(rho), points)
    assert found is not None
    low, high = np.tanh(ends(found.interval))
    assert -1 <= low < np.tanh(found.mean) < high <= 1 or math.isclose(low, high)


def test_seeds_that_agree_fully_are_as_sure_as_their_epochs_allow() -> None:
    ones = np.ones(3)
    few, many = (correlation_t_test(ones, points) for points in (3, 30))
    assert few is not None
    assert many is not None
    assert few.p() > 0.05 > many.p()
    assert correlation_t_test(ones[:1], 30) is None


def test_unpaired_the_interval_is_welchs() -> None:
    """One arm may have no spread; the degrees of freedom are Welch's and Satterthwaite's."""
    for second in (OTHER[:2], np.array([34.0, 34.0])):
        found = unpaired_difference(ONE, second)
        e1, e2 = ONE.var(ddof=1) / 3, second.var(ddof=1) / 2
        freedom = (e1 + e2) ** 2 / (e1**2 / 2 + e2**2 / 1)
        half = stats.t.ppf(0.975, freedom) * math.sqrt(e1 + e2)
        assert ends(found.interval) == pytest.approx((found.mean - half, found.mean + half))
        assert (found.n, found.n_second, found.paired) == (3, 2, False)


def test_the_unpaired_effect_is_by_the_pooled_deviation() -> None:
    found = unpaired_difference(np.array([1.0, 3.0]), np.array([4.0, 8.0]))
    assert found.effect == pytest.approx(4 / math.sqrt((2 + 8) / 2))
    assert found.corrected == pytest.approx(hedges_factor(2) * 4 / math.sqrt(5))


@given(samples, st.floats(0.1, 10), numbers)
@settings(max_examples=25)
def test_scaling_and_shifting_both_arms_change_only_the_scale(
    pairs: list[tuple[float, float]], scale: float, shift: float
) -> None:
    one, other = columns(pairs)
    before = paired_difference(one, other)
    after = paired_difference(scale * one + shift, scale * other + shift)
    assert after.mean == pytest.approx(scale * before.mean, rel=1e-6, abs=1e-6)
    if before.effect is not None and np.std(other - one) > 1e-2:
        assert after.effect == pytest.approx(before.effect, rel=1e-5, abs=1e-6)


@given(samples)
@settings(max_examples=25)
def test_exchanging_the_arms_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    one, other = columns(pairs)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert back.mean == pytest.approx(-there.mean)
    assert back.permutation_p == pytest.approx(there.permutation_p)
    assert back.p == (None if there.p is None else pytest.approx(there.p, abs=1e-9))
    if there.interval and back.interval:
        assert back.interval.low == pytest.approx(-there.interval.high, abs=1e-9)


def test_one_seed_has_a_difference_and_nothing_else() -> None:
    found = paired_difference(np.array([1.0]), np.array([3.0]))
    assert found.mean == 2.0
    permutation = found.permutation_p, found.smallest_p
    nothing = (found.interval, found.bootstrap, found.p, found.effect, *permutation)
    assert nothing == (None,) * 6
    assert not found.is_flat


def test_unpaired_one_seed_of_an_arm_is_no_sample() -> None:
    found = unpaired_difference(np.array([1.0]), OTHER)
    assert (found.n, found.n_second) == (1, 3)
    assert (found.interval, found.bootstrap, found.p, found.effect) == (None,) * 4
    assert found.permutation_p is None
    assert not found.is_flat


def test_equal_differences_have_no_interval_but_are_told_from_one_seed() -> None:
    found = paired_difference(np.array([1.0, 2.0, 3.0]), np.array([1.3, 2.3, 3.3]))
    assert (found.interval, found.bootstrap, found.effect) == (None, None, None)
    assert found.is_flat
    assert (found.p, found.permutation_p) == (None, 0.25)


def test_two_seeds_have_no_small_sample_factor() -> None:
    found = paired_difference(np.array([0.0, 0.0]), np.array([1.0, 2.0]))
    assert found.effect is not None
    assert found.corrected is None


@pytest.mark.parametrize(("n", "method"), [(4, "percentile"), (MIN_BCA_SEEDS, "BCa"), (12, "BCa")])
def test_the_bootstrap_is_bca_where_there_are_seeds_enough(n: int, method: str) -> None:
    differences = np.random.default_rng(3).normal(1.0, 2.0, n)
    found = paired_difference(np.zeros(n), differences)
    assert found.bootstrap_method == method
    assert found.bootstrap is not None
    assert differences.min() <= found.bootstrap.low < found.mean < found.bootstrap.high
    assert found.bootstrap.high <= differences.max()
    assert found == paired_difference(np.zeros(n), differences)  # the seed is fixed


def test_the_bootstrap_is_that_of_all_resamples() -> None:
    """Of three seeds all 27 resamples are known; 9,999 random ones have the same quantiles."""
    differences = np.array([1.0, 2.0, 4.0])
    means = [sum(three) / 3 for three in itertools.product(differences, repeat=3)]
    found = paired_difference(np.zeros(3), differences).bootstrap
    assert found is not None
    assert found.low == pytest.approx(np.quantile(means, 0.025, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(means, 0.975, method="inverted_cdf"))


def test_many_seeds_are_sampled_and_say_so() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1.0, 20)
    found = paired_difference(np.zeros(20), differences)
    assert not found.is_exact
    assert found.smallest_p == 2 / 10_000
    assert found.permutation_p == pytest.approx(found.p, abs=0.02)


def test_the_t_interval_holds_the_true_mean_in_95_of_100_cases() -> None:
    draws = np.random.default_rng(1).normal(2.0, 3.0, (1000, 4))
    tests = [t_test(one) for one in draws]
    intervals = [test.interval for test in tests if test is not None]
    share = np.mean([one.low <= 2.0 <= one.high for one in intervals])
    assert share == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("freedom", [2, 5, 30])
def test_hedges_factor_is_near_its_usual_approximation(freedom: int) -> None:
    assert hedges_factor(freedom) == pytest.approx(1 - 3 / (4 * freedom - 1), abs=0.01)


def test_holm_by_hand() -> None:
    # Holm's own order: 0.005·4, 0.011·3, 0.02·2, then no smaller than before
    assert holm_corrected([0.011, 0.02, 0.005, 0.03]) == pytest.approx([0.033, 0.04, 0.02, 0.04])
    assert holm_corrected([0.5, None, 0.4]) == [0.8, None, 0.8]
    assert holm_corrected([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_the_p_values_and_bonferronis(p_values: list[float]) -> None:
    corrected = holm_corrected(list(p_values))
    for p, after in zip(p_values, corrected, strict=True):
        assert after is not None
        assert p <= after <= min(1.0, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected, dtype=float)[order]) >= 0)


@pytest.mark.parametrize(
    ("effect", "paired", "n"),
    # Cohen's tables and G*Power: two-sided, α = 0.05, power 0.8
    [(0.2, True, 199), (0.5, True, 34), (0.8, True, 15), (0.5, False, 64), (0.8, False, 26)],
)
def test_published_sample_sizes(effect: float, paired: bool, n: int) -> None:
    assert seeds_needed(effect, paired) == n


def test_power_is_how_often_simulated_studies_resolve_the_effect() -> None:
    draws = np.random.default_rng(0).normal(0.8, 1.0, (4000, 10))
    share = float(np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05))
    assert power(0.8, 10) == pytest.approx(share, abs=0.025)


@given(st.floats(0.05, 50), st.booleans())
@settings(max_examples=30)
def test_the_number_of_seeds_is_the_fewest_that_do(effect: float, paired: bool) -> None:
    n = seeds_needed(effect, paired)
    assert n is not None
    assert power(effect, n, paired) >= TARGET_POWER
    assert n == MIN_SEEDS or power(effect, n - 1, paired) < TARGET_POWER
    assert seeds_needed(-effect, paired) == n


@pytest.mark.parametrize("effect", [0.0, 1e-9, 0.02])
def test_what_no_feasible_number_resolves_has_none(effect: float) -> None:
    assert power(effect, MAX_SEEDS) < TARGET_POWER
    assert seeds_needed(effect) is None


def test_a_huge_effect_needs_as_many_seeds_as_a_verdict_takes() -> None:
    assert seeds_needed(1e9) == seeds_needed(1e9, paired=False) == MIN_SEEDS


def test_a_stricter_level_needs_more_seeds() -> None:
    draws = np.random.default_rng(0).normal(0.5, 1.0, (2000, 48))
    share = float(np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.0125))
    assert power(0.5, 48, alpha=0.0125) == pytest.approx(share, abs=0.025)
    assert seeds_needed(0.5, alpha=0.0125) == 48
    assert seeds_needed(0.5) == 34


def test_no_effect_is_resolved_as_often_as_by_chance() -> None:
    assert power(0.0, 5) == pytest.approx(0.05)
