"""The parts of a finding: the side of an interval, oscillation, the epoch that reaches a value."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.analysis.findings import ClaimPart, Finding
from rkkd_cli.analysis.findings.claims import epochs_to_reach, oscillation
from rkkd_cli.analysis.findings.verdict import (
    answered,
    judge_correlation,
    judge_part,
    judge_together,
    not_judged,
)
from rkkd_cli.analysis.stages import ScheduleStage

YES, NO = (0.001, 1.0), (1.0, 0.001)
OPEN, LUCKY, UNLUCKY = (0.3, 1.0), (0.04, 1.0), (1.0, 0.04)


def finding(*parts: tuple[float, float], also: tuple[Any, ...] = ()) -> Finding:
    measured = [answered("x", "", 3, *p) for p in parts]
    return Finding(
        "name", "claim", "not resolved", [*measured, *(ClaimPart("", w, "") for w in also)]
    )


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (finding(YES, YES), "supported"),
        (finding(YES, OPEN), "not resolved"),
        (finding(YES, NO, OPEN), "contradicted"),
        (finding(YES, also=("not tested",)), "not judged"),
        (finding(NO, also=("not tested",)), "contradicted"),
        (finding(YES, also=("too few seeds",)), "too few seeds"),
        (finding(also=("too few seeds", "not tested")), "too few seeds"),
        (not_judged("name", "claim", "why", finding(YES).parts), "not judged"),
    ],
)
def test_a_claim_is_as_good_as_its_worst_part(one: Finding, verdict: str) -> None:
    (found,) = judge_together([one])
    assert found.verdict == verdict
    assert (found.p is None) == (verdict in ("too few seeds", "not judged"))


def test_claims_that_are_judged_together_are_corrected_for_their_number() -> None:
    (alone,) = judge_together([finding(LUCKY, YES)])
    assert (alone.verdict, alone.p, alone.family) == ("supported", 0.04, 1)
    lucky, sure, skipped = judge_together(
        [finding(LUCKY, YES), finding(YES), not_judged("name", "claim", "why")]
    )
    assert (lucky.verdict, lucky.p) == ("supported", 0.04)  # Holm: the other claim comes first
    assert (sure.p, sure.family, skipped.family) == (0.002, 2, 1)
    lucky, other = judge_together([finding(LUCKY, YES), finding(LUCKY)])
    assert lucky.verdict == other.verdict == "not resolved"
    assert lucky.note == "each part by itself says yes, but corrected for 2 claims p is 0.080"


def test_a_contradiction_is_corrected_for_the_number_of_parts() -> None:
    (one,) = judge_together([finding(UNLUCKY)])
    assert (one.verdict, one.p) == ("contradicted", 0.04)
    (of_two,) = judge_together([finding(UNLUCKY, YES)])
    assert of_two.verdict == "not resolved"
    note = "a part by itself says no, but corrected for 2 parts and 1 claim p is 0.080"
    assert of_two.note == note


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6), st.sampled_from([-1, 1]))
@settings(max_examples=50)
def test_a_part_is_answered_by_the_side_of_its_interval(values: list[float], wanted: int) -> None:
    told, turned = (judge_part("x", pd.Series(values), way) for way in (wanted, -wanted))
    opposite = {"yes": "no", "no": "yes"}
    assert turned.answer == opposite.get(told.answer, told.answer)
    assert (turned.p_yes, turned.p_no) == (told.p_no, told.p_yes)
    if told.answer == "yes":
        assert wanted * float(np.mean(values)) > 0
    assert (told.answer == "too few seeds") == (len(values) == 2)


def test_seeds_may_share_a_value_of_a_correlation_only() -> None:
    ones = pd.Series([1.0, 1.0, 1.0])
    part = judge_correlation("x", ones, 30, +1)
    assert part.answer == "yes"
    assert part.numbers.startswith("1.00, ")
    assert part.numbers.endswith("to 1.00, n = 3")
    assert judge_part("x", ones, +1).answer == "open"
    assert judge_correlation("x", ones[:2], 30, +1).answer == "too few seeds"
    assert judge_correlation("x", ones[:1], 30, +1).answer == "too few seeds"
    assert judge_correlation("x", ones * np.nan, 30, +1).answer == "not tested"


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
