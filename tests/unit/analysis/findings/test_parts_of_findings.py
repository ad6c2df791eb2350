"""The parts of a finding: the side of an interval, oscillation, the epoch that reaches a value."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.analysis.findings import ClaimPart, combine_verdicts
from rkkd_cli.analysis.findings.claims import epochs_to_reach, oscillation
from rkkd_cli.analysis.findings.verdict import judge_part
from rkkd_cli.analysis.stages import ScheduleStage


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (("supported", "supported"), "supported"),
        (("supported", "not resolved"), "not resolved"),
        (("supported", "contradicted", "not resolved"), "contradicted"),
        ((), "not resolved"),
    ],
)
def test_a_claim_is_as_good_as_its_worst_part(parts: Any, verdict: str) -> None:
    assert combine_verdicts([ClaimPart("", one, "") for one in parts]) == verdict


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6), st.sampled_from([-1, 1]))
@settings(max_examples=50)
def test_a_part_is_judged_by_the_side_of_its_interval(values: list[float], wanted: int) -> None:
    told, turned = (judge_part("x", pd.Series(values), way) for way in (wanted, -wanted))
    opposite = {"supported": "contradicted", "contradicted": "supported"}
    assert turned.verdict == opposite.get(told.verdict, "not resolved")
    if told.verdict == "supported":
        assert wanted * float(np.mean(values)) > 0
    if min(values) < 0 < max(values) and len(values) == 2:
        assert told.verdict == "not resolved"


def test_seeds_may_share_a_value_of_a_coarse_statistic_only() -> None:
    ones = pd.Series([1.0, 1.0, 1.0])
    assert judge_part("x", ones, +1, coarse=True).verdict == "supported"
    assert judge_part("x", ones, +1).verdict == "not resolved"
    assert judge_part("x", ones[:1], +1, coarse=True).verdict == "not resolved"


def test_seeds_without_a_value_are_counted() -> None:
    part = judge_part("x", pd.Series([1.0, 1.1, np.nan, np.inf]), +1)
    assert part.numbers.endswith("n = 2; 2 of 4 seeds have no value")


def test_oscillation_by_hand() -> None:
    curves = pd.DataFrame({0: [9.0, 1.0, 2.0, 1.0, 2.0], 1: [5.0, 4.0, 3.0, 2.0, 1.0]})
    curves.index = pd.RangeIndex(1, 6)
    found = oscillation(curves, ScheduleStage(2, 5))
    assert found.tolist() == [2.0, 0.0]  # |1 − 4 + 1|, |2 − 2 + 2|; a straight line has none


def test_the_epoch_at_which_a_value_is_reached_is_interpolated() -> None:
    curves = pd.DataFrame({0: [4.0, 2.0, 1.0], 1: [1.0, 0.0, 0.0], 2: [4.0, 3.0, 2.5]})
    curves.index = pd.RangeIndex(1, 4)
    targets = pd.Series({0: 3.0, 1: 2.0, 2: 2.0})
    found = epochs_to_reach(curves, targets, -1)
    assert found[0] == 1.5
    assert found[1] == 1.0
    assert np.isnan(found[2])
    assert epochs_to_reach(-curves, -targets, +1)[0] == 1.5
