"""The study's claims on curves made so that each is true, false or open, and on what runs lack."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import metric_row

from rkkd_cli.analysis.findings import Finding, judge_findings
from rkkd_cli.analysis.findings.arms import control_arms, rank_pairs
from rkkd_cli.analysis.stages import ScheduleStage, schedule_stages
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment

EPOCHS = 12
DROPS = (6, 9)  # the last epochs of the first two stages
DIRECTION, RANKING, KL, ACCURACY, GRADIENTS = (
    "consistent direction",
    "ranking optimised faster and further",
    "helps KL",
    "better accuracy at all stages",
    "gradient balance",
)
GRADIENT_SHARES = ("grad_low_share_kl", "grad_low_share_teacher")
Curve = Callable[[int], float]


def experiment(*overrides: tuple[str, Any]) -> Experiment:
    given = [("training.epochs", EPOCHS), *overrides]
    return load_experiment("rank_grad", [Override(*one) for one in given])


def rate(epoch: int) -> float:
    return [0.1, 0.01, 0.001][sum(epoch > drop for drop in DROPS)]


def level(value: float) -> Curve:
    return lambda epoch: value + 0 * epoch


def wiggle(size: float, epoch: int) -> float:
    return (size if epoch % 2 == 0 else -size) if epoch <= DROPS[0] else 0.0


CONTROL: dict[str, Curve] = {
    "rank": lambda e: -0.8 + 0.6 / e,
    "kl": lambda e: 1.0 + 6.0 / e + wiggle(0.3, e),
    "test_acc": lambda e: 60.0 + e,
    "kendall_tau": lambda e: 0.8 - 0.6 / e,
    "grad_low_share_kl": level(0.05),
    "grad_low_share_rank": level(0.5),
    "grad_low_share_teacher": level(0.06),
    "grad_live_pairs": level(0.125),
}
TREATED: dict[str, Curve] = CONTROL | {
    "rank": lambda e: -0.9 + 0.6 / e,
    "kl": lambda e: 0.7 + 5.0 / e + wiggle(0.1, e),
    "test_acc": lambda e: 62.0 + e,
    "kendall_tau": lambda e: 0.9 - 0.6 / e,
}


def rows_of(
    arms: dict[str, dict[str, Curve]], seeds: int = 3, epochs: int = EPOCHS, noise: float = 1e-3
) -> pd.DataFrame:
    """Return rows whose values follow the curves, each seed a little off, arms alike."""
    rows: list[dict[str, Any]] = []
    for number, (arm, curves) in enumerate(arms.items()):
        for seed in range(seeds):
            off = np.random.default_rng([number, seed]).normal(0.0, noise, len(curves))
            for epoch in range(1, epochs + 1):
                values = {
                    name: curve(epoch) * (1 + shift)
                    for (name, curve), shift in zip(curves.items(), off, strict=True)
                }
                values |= {f"test_{one}": values[one] for one in ("rank", "kl", "kendall_tau")}
                rows.append(metric_row(arm, seed, epoch, **values, lr=rate(epoch)))
    return pd.DataFrame(rows)


def by_name(metrics: pd.DataFrame, told: Experiment | None = None) -> dict[str, Finding]:
    found = judge_findings(told or experiment(("findings", {})), metrics)
    return {one.name: one for one in found}


def answers(finding: Finding) -> list[str]:
    return [part.answer for part in finding.parts]


TRUE = {"kd": CONTROL, "kd_rank": TREATED}
FALSE = {"kd": TREATED, "kd_rank": CONTROL}


def test_curves_made_so_support_all_five_claims() -> None:
    found = by_name(rows_of(TRUE))
    assert list(found) == [DIRECTION, RANKING, KL, ACCURACY, GRADIENTS]
    for one in found.values():
        assert one.verdict == "supported", one
        assert set(answers(one)) == {"yes"}
        assert one.note == ""
        assert all("n = 3" in part.numbers or "3 seeds" in part.numbers for part in one.parts)


def test_the_arms_exchanged_contradict_what_is_about_both() -> None:
    found = by_name(rows_of(FALSE))
    for name in (RANKING, KL, ACCURACY):
        assert found[name].verdict == "contradicted"
        assert "yes" not in answers(found[name])
    assert found[DIRECTION].verdict == found[GRADIENTS].verdict == "supported"


def test_the_same_curves_in_both_arms_resolve_nothing_about_both() -> None:
    alike = {"kd": CONTROL, "kd_rank": CONTROL}
    found = by_name(rows_of(alike, noise=0.02))
    for name in (RANKING, KL, ACCURACY):
        assert found[name].verdict == "not resolved"


def test_a_ranking_loss_that_rises_as_kl_falls_contradicts_the_direction() -> None:
    rising = CONTROL | {"rank": lambda e: -0.5 + 0.01 * e}
    found = by_name(rows_of(TRUE | {"kd": rising}))[DIRECTION]
    assert found.verdict == "contradicted"
    assert answers(found) == ["no", "yes", "no"]


def test_a_level_curve_has_no_correlation() -> None:
    flat = CONTROL | {"rank": level(-0.5)}
    found = by_name(rows_of(TRUE | {"kd": flat}))[DIRECTION]
    assert answers(found)[2] == "not tested"
    assert "no seed has a value" in found.parts[2].numbers
    assert found.verdict == "not judged"


@pytest.mark.parametrize(
    ("kl", "rank", "told", "verdict"),
    [
        (0.05, 0.5, ["yes", "yes"], "supported"),
        (0.08, 0.5, ["no", "yes"], "contradicted"),
        (0.05, 0.03, ["yes", "no"], "contradicted"),
        (0.06, 0.5, ["open", "yes"], "not resolved"),
        (0.05, 0.05, ["yes", "open"], "not resolved"),
    ],
)
def test_shares_beside_the_teachers_give_the_balance_its_verdict(
    kl: float, rank: float, told: list[str], verdict: str
) -> None:
    shares = {"grad_low_share_kl": level(kl), "grad_low_share_rank": level(rank)}
    found = by_name(rows_of(TRUE | {"kd": CONTROL | shares}, noise=0.01))[GRADIENTS]
    assert (answers(found), found.verdict) == (told, verdict)


def test_the_balance_has_the_numbers_behind_it() -> None:
    falling = CONTROL | {"grad_low_share_kl": lambda e: 0.06 + 0.024 / e}
    found = by_name(rows_of(TRUE | {"kd": falling}, noise=0.0))[GRADIENTS]
    teacher, ranking = (part.numbers for part in found.parts)
    assert teacher == (
        "+0.00621 in each of 3 seeds, no spread; KL's share is 0.0662, the teacher's 0.0600; "
        "+0.0240 in epoch 1; +0.00200 in epoch 12"
    )
    assert ranking.endswith("the ranking loss' share is 0.500, and 0.125 of the pairs are live")


def test_without_the_diagnostics_the_balance_is_open_and_says_why() -> None:
    metrics = rows_of(TRUE)
    for lacking in ("grad_low_share_rank", "grad_low_share_teacher"):
        for told in (metrics.drop(columns=[lacking]), metrics.assign(**{lacking: np.nan})):
            found = by_name(told)[GRADIENTS]
            assert (found.verdict, found.parts) == ("not judged", [])
            assert found.note == f"the run has no values of {lacking}"


def test_without_live_pairs_the_balance_is_judged_all_the_same() -> None:
    found = by_name(rows_of(TRUE).drop(columns=["grad_live_pairs"]))[GRADIENTS]
    assert found.verdict == "supported"
    assert found.parts[1].numbers.endswith("the ranking loss' share is 0.500")


@pytest.mark.parametrize(("seeds", "told"), [(1, "1 seed"), (2, "2 seeds")])
def test_fewer_than_three_seeds_give_no_verdict_and_say_why(seeds: int, told: str) -> None:
    whole = experiment(("findings", {}), ("seeds", list(range(seeds))))
    for one in by_name(rows_of(TRUE, seeds=seeds), whole).values():
        assert one.verdict == "too few seeds"
        assert set(answers(one)) == {"too few seeds"}
        assert one.note == f"{told}, and a verdict takes 3"
        if seeds == 1:
            assert all("in one seed, no interval" in part.numbers for part in one.parts)


def test_a_run_that_has_not_ended_is_not_judged_yet() -> None:
    for one in by_name(rows_of(TRUE, epochs=10)).values():
        assert one.verdict == "not judged"
        assert "10 of 12 epochs" in one.note


def test_a_seed_that_one_arm_lacks_is_left_out_and_told() -> None:
    metrics = rows_of(TRUE, seeds=4)
    lost = (metrics["arm"] == "kd_rank") & (metrics["seed"] == 2) & (metrics["epoch"] > 5)
    found = by_name(metrics[~lost])
    assert found[RANKING].note == "1 seed left out, without every epoch up to 12 in all arms"
    assert "n = 3" in found[RANKING].parts[0].numbers
    assert found[DIRECTION].note == ""


def test_seeds_that_have_not_begun_are_counted_as_missing() -> None:
    told = experiment(("findings", {}), ("seeds", list(range(6))))
    for one in by_name(rows_of(TRUE), told).values():
        assert one.note == "3 seeds left out, without every epoch up to 12 in all arms"


def test_arms_without_a_common_seed_are_not_compared() -> None:
    metrics = rows_of(TRUE)
    moved = metrics.assign(seed=metrics["seed"] + 10 * (metrics["arm"] == "kd"))
    found = by_name(moved)[RANKING]
    assert (found.verdict, found.parts) == ("not judged", [])
    assert "no seed has rows of kd and kd_rank" in found.note


def test_an_arm_without_rows_is_no_crash() -> None:
    metrics = rows_of({"kd": CONTROL})
    found = by_name(metrics)
    assert found[DIRECTION].verdict == "supported"
    assert found[RANKING].verdict == "not judged"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_rows_with_holes_get_an_answer_that_can_be_written_down(number: int) -> None:
    random = np.random.default_rng(number)
    metrics = rows_of(TRUE, noise=0.05)
    metrics = metrics[random.random(len(metrics)) < random.choice([0.05, 0.5, 0.95, 1.0])]
    for column in random.choice(["rank", "kl", "test_acc", "lr", *GRADIENT_SHARES], 2):
        hole = random.choice([np.nan, np.inf, -np.inf, 0.0, 1e300])
        metrics = metrics.assign(
            **{column: metrics[column].where(random.random(len(metrics)) < 0.8, hole)}
        )
    found = judge_findings(experiment(), metrics)
    assert len(found) == 6
    json.dumps([dataclasses.asdict(one) for one in found], allow_nan=False)
    assert not any("nan" in part.numbers for one in found for part in one.parts)
    for one in found:
        assert one.parts or one.note


@pytest.mark.parametrize(
    ("kept", "about_pairs", "about_controls"),
    [("kd", "no arm with rank.grad = true", ""), ("kd_rank", "has a control", "no arm distils")],
)
def test_a_run_of_one_arm_says_what_is_missing(
    kept: str, about_pairs: str, about_controls: str
) -> None:
    told = experiment(("findings", {}))
    told = told.model_copy(update={"arms": {kept: told.arms[kept]}})
    found = by_name(rows_of({kept: CONTROL}), told)
    for name in (RANKING, KL, ACCURACY):
        assert about_pairs in found[name].note
    assert about_controls in found[DIRECTION].note


def test_arms_with_a_ranking_loss_of_their_own_are_compared_in_tau() -> None:
    arms = {
        "kd": {"rank": {"grad": False}},
        "steep": {"rank": {"grad": True, "steepness": 50.0}},
    }
    told = experiment(("findings", {}), ("arms", arms))
    misleading = TREATED | {"rank": level(0.0)}
    found = by_name(rows_of({"kd": CONTROL, "steep": misleading}), told)[RANKING]
    assert found.verdict == "supported"
    assert "Kendall's τ-b is compared instead" in found.note
    assert all("ranking loss" not in part.what for part in found.parts)


def test_a_treated_arm_that_never_gets_there_supports_no_speed() -> None:
    slow = TREATED | {"rank": level(-0.4)}
    found = by_name(rows_of(TRUE | {"kd_rank": slow}))[RANKING]
    part = next(one for one in found.parts if "fewer epochs" in one.what)
    assert part.answer == "open"
    assert "3 seeds never reached it" in part.numbers


def test_without_a_drop_there_is_one_stage_and_the_first_third_is_early() -> None:
    found = by_name(rows_of(TRUE).assign(lr=0.1))
    assert [part.what for part in found[ACCURACY].parts][1:] == [
        "ahead at the end of stage 1 of 1 (epoch 12)"
    ]
    assert "epochs 1 to 4" in found[KL].parts[0].what
    assert "too few epochs" in found[KL].parts[1].numbers


def test_stages_end_where_the_rate_drops() -> None:
    metrics = rows_of({"kd": CONTROL}, seeds=1)
    assert schedule_stages(metrics, EPOCHS) == [
        ScheduleStage(1, 6),
        ScheduleStage(7, 9),
        ScheduleStage(10, 12),
    ]
    assert schedule_stages(metrics, 8) == [ScheduleStage(1, 6), ScheduleStage(7, 8)]


def test_each_method_is_held_against_its_own_control() -> None:
    told = load_experiment("kendall_plugin")
    assert [pair.names for pair in rank_pairs(told)] == [
        (name, f"{name}_rank") for name in ("kd", "kd_standardized", "ctkd", "dkd", "mlkd", "dist")
    ]
    assert "kd_rank" not in [arm.name for arm in control_arms(told)]
    some = rows_of({"dkd": CONTROL, "dkd_rank": TREATED}, epochs=2)
    names = [one.name for one in judge_findings(told, some, ["dkd_rank"])]
    assert names.count(RANKING) == 1
    assert len([one for one in judge_findings(told, some) if one.name == RANKING]) == 6


def test_a_student_without_distillation_is_no_control() -> None:
    assert [arm.name for arm in control_arms(load_experiment("sp_cifar10"))] == ["kd", "sp"]


def test_too_many_arms_to_tell_of_have_to_be_named() -> None:
    told = load_experiment("alpha_temperature_digits")
    arm = next(iter(control_arms(told))).name
    metrics = rows_of({arm: CONTROL}, epochs=told.training.epochs)
    found = by_name(metrics, told)
    assert len(found) == 5
    assert all("name some of them" in one.note for one in found.values())
    assert {one.name for one in judge_findings(told, metrics, [arm]) if one.parts} == {
        DIRECTION, GRADIENTS
    }  # fmt: skip
