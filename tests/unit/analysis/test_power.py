"""How many seeds would do: published sample sizes, simulation, and monotony."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rkkd_cli.analysis.power import MOST, WANTED, power, seeds_for


@pytest.mark.parametrize(
    ("effect", "paired", "n"),
    # Cohen's tables and G*Power: two-sided, α = 0.05, power 0.8
    [(0.2, True, 199), (0.5, True, 34), (0.8, True, 15), (0.5, False, 64), (0.8, False, 26)],
)
def test_published_sample_sizes(effect: float, paired: bool, n: int) -> None:
    assert seeds_for(effect, paired) == n


def test_power_is_how_often_simulated_studies_resolve_the_effect() -> None:
    draws = np.random.default_rng(0).normal(0.8, 1.0, (4000, 10))
    share = float(np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05))
    assert power(0.8, 10) == pytest.approx(share, abs=0.025)


@given(st.floats(0.05, 50), st.booleans())
@settings(max_examples=30)
def test_the_number_of_seeds_is_the_fewest_that_do(effect: float, paired: bool) -> None:
    n = seeds_for(effect, paired)
    assert n is not None
    assert power(effect, n, paired) >= WANTED
    assert n == 2 or power(effect, n - 1, paired) < WANTED
    assert seeds_for(-effect, paired) == n


@pytest.mark.parametrize("effect", [0.0, 1e-9, 0.02])
def test_what_no_feasible_number_resolves_has_none(effect: float) -> None:
    assert power(effect, MOST) < WANTED
    assert seeds_for(effect) is None


def test_a_huge_effect_needs_two_seeds() -> None:
    assert seeds_for(1e9) == seeds_for(1e9, paired=False) == 2


def test_no_effect_is_resolved_as_often_as_by_chance() -> None:
    assert power(0.0, 5) == pytest.approx(0.05)
