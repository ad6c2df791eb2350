"""The findings that an experiment states: by arms, by values, as alike; or told why not."""

from typing import Any

import pandas as pd
import pytest
from made_rows import metric_row
from scipy.stats import ttest_1samp

from rkkd_cli.analysis.findings import Finding, judge_findings
from rkkd_cli.analysis.findings.stated import measure_stated_findings
from rkkd_cli.analysis.findings.verdict import judge_together
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment

ARMS = {
    "kd": {"rank": {"grad": False}},
    "gentle": {"rank": {"grad": True, "steepness": 1.0}},
    "steep": {"rank": {"grad": True, "steepness": 100.0}},
}
AHEAD = {"kd": [50.0, 51.0, 52.0], "gentle": [50.1, 50.9, 52.2], "steep": [60.0, 61.1, 62.0]}


def experiment(arms: dict[str, Any] = ARMS, **finding: Any) -> Experiment:
    stated = {"mine": {"claim": "A claim.", **finding}}
    given = {"training.epochs": 2, "arms": arms, "findings": stated}
    return load_experiment("rank_grad", [Override(*one) for one in given.items()])


def rows(values: dict[str, list[float]], column: str = "test_acc", epochs: int = 2) -> pd.DataFrame:
    """Return rows in which seed n of an arm has its n-th value, at every epoch."""
    return pd.DataFrame(
        metric_row(arm, seed, epoch, **{column: value})
        for arm, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
        for epoch in range(1, epochs + 1)
    )


def only(told: Experiment, metrics: pd.DataFrame) -> Finding:
    (found,) = judge_together(measure_stated_findings(told, metrics))
    assert (found.name, found.claim) == ("mine", "A claim.")
    assert judge_findings(told, metrics)[-1].parts == found.parts
    return found


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ("steep", "kd", "supported"),
        ("steep", ["kd", "gentle"], "supported"),
        ("kd", "steep", "contradicted"),
        ("gentle", "kd", "not resolved"),
        (["steep", "gentle"], "kd", "not resolved"),
        ({"rank": {"grad": True}}, {"rank": {"grad": False}}, "not resolved"),
        ({"rank": {"steepness": 100.0}}, "kd", "supported"),
    ],
)
def test_arms_ahead_of_others(better: Any, worse: Any, verdict: str) -> None:
    found = only(experiment(better=better, worse=worse), rows(AHEAD))
    assert found.verdict == verdict
    assert found.note == ""
    for part in found.parts:
        assert "95 % interval" in part.numbers
        assert "n = 3" in part.numbers


def test_a_seed_that_ended_early_counts_with_its_own_last_epoch() -> None:
    told, metrics = experiment(better="steep", worse="kd"), rows(AHEAD)
    behind = metrics[(metrics["seed"] != 0) | (metrics["arm"] != "kd") | (metrics["epoch"] < 2)]
    assert "1 seed left out" in judge_findings(told, behind)[-1].note
    found = judge_findings(told, behind, ended_early=[("kd", 0)])[-1]
    assert "n = 3" in found.parts[0].numbers
    assert "left out" not in found.note


def test_for_a_loss_ahead_is_lower() -> None:
    told = experiment(better="kd", worse="steep", metric="test_kl")
    found = only(told, rows(AHEAD, "test_kl"))
    assert found.verdict == "supported"
    assert found.parts[0].what == "kd is lower than steep"


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [(5.0, "supported"), (10.0, "not resolved"), (15.0, "contradicted"), (-5.0, "supported")],
)
def test_a_margin_is_what_the_lead_has_to_exceed(margin: float, verdict: str) -> None:
    told = experiment(better="steep", worse="kd", margin=margin)
    assert only(told, rows(AHEAD)).verdict == verdict


def test_a_negative_margin_allows_to_be_a_little_behind() -> None:
    told = experiment(better="kd", worse="gentle", margin=-1.0)
    assert only(told, rows(AHEAD)).verdict == "supported"


@pytest.mark.parametrize(
    ("same", "within", "verdict"),
    [
        (["kd", "gentle"], 1.0, "supported"),
        (["kd", "gentle"], 0.1, "not resolved"),
        (["kd", "steep"], 1.0, "contradicted"),
        (["kd", "gentle", "steep"], 1.0, "contradicted"),
    ],
)
def test_arms_that_are_alike(same: list[str], within: float, verdict: str) -> None:
    found = only(experiment(same=same, within=within), rows(AHEAD))
    assert found.verdict == verdict
    assert len(found.parts) == len(same) * (len(same) - 1) / 2


def test_values_pair_each_arm_with_the_one_that_differs_in_them_alone() -> None:
    arms = {
        "kd": {"rank": {"grad": False}},
        "kd_rank": {"rank": {"grad": True}},
        "dkd": {"method": {"name": "dkd"}, "rank": {"grad": False}},
        "dkd_rank": {"method": {"name": "dkd"}, "rank": {"grad": True, "weight": 1.0}},
    }
    told = experiment(arms, better={"rank": {"grad": True}}, worse={"rank": {"grad": False}})
    found = only(told, rows({arm: [1.0, 2.0] for arm in arms}))
    assert [part.what for part in found.parts] == [
        "kd_rank is higher than kd", "dkd_rank is higher than dkd"
    ]  # fmt: skip


def test_cells_of_a_grid_are_paired_at_the_same_other_values() -> None:
    stated = {
        "claim": "A claim.",
        "better": {"method": {"alpha": 0.9}},
        "worse": {"method": {"alpha": 0.1}},
    }
    grid = load_experiment("alpha_temperature_digits", [Override("findings.mine", stated)])
    values = {arm: [1.0, 2.0] for arm in grid.arms if arm.startswith(("alpha=0.9", "alpha=0.1"))}
    found = only(grid, rows(values, epochs=grid.training.epochs))
    assert len(found.parts) == len(grid.vary["method.temperature"])
    assert found.parts[0].what == ("alpha=0.9_temperature=1 is higher than alpha=0.1_temperature=1")


def test_cells_are_compared_with_the_baseline() -> None:
    grid = load_experiment("alpha_temperature")
    ahead = {"baseline": [60.0, 60.2, 60.1], "alpha=0.5_temperature=10": [61.0, 61.4, 61.2]}
    values = {arm: [59.4, 59.7, 59.5] for arm in grid.arms} | ahead
    findings = judge_findings(grid, rows(values, epochs=grid.training.epochs))
    by_name = {finding.name: finding.verdict for finding in findings}
    assert by_name["soft_targets_help"] == by_name["alone_ahead_at_t_1"] == "supported"


def test_of_many_arms_a_message_names_the_first() -> None:
    grid = load_experiment("alpha_temperature", [Override("vary.method.alpha", [0.1, 0.9])])
    found = judge_findings(grid, rows({"baseline": [60.0]}, epochs=1))
    (note,) = (finding.note for finding in found if finding.name == "soft_targets_help")
    assert "no arm with method.alpha = 0.5 and method.temperature = 10; its arms are" in note
    assert note.endswith(", …")


@pytest.mark.parametrize(
    ("finding", "note"),
    [
        ({"better": "steep", "worse": "kd", "metric": "test_ac"}, "did you mean 'test_acc'"),
        ({"better": "steep", "worse": "kd", "select": "val"}, "no validation split"),
        ({"better": {"rank": {"weight": 7.0}}, "worse": "kd"}, "no arm with rank.weight = 7;"),
        ({"better": "steep", "worse": "kd", "metric": "rank"}, "its own rank.steepness"),
    ],
)
def test_what_cannot_be_measured_is_not_judged_and_says_why(
    finding: dict[str, Any], note: str
) -> None:
    found = only(experiment(**finding), rows(AHEAD))
    assert found.verdict == "not judged"
    assert note in found.note


@pytest.mark.parametrize(
    ("level", "verdict"), [(55.0, "supported"), (70.0, "contradicted"), (61.0, "not resolved")]
)
def test_students_are_compared_with_their_teacher(level: float, verdict: str) -> None:
    told = experiment(better="steep", worse="teacher")
    facts = {"model": "digits_teacher", "test_acc": level}
    (found,) = judge_together(measure_stated_findings(told, rows(AHEAD), teachers=[facts]))
    assert found.verdict == verdict
    assert found.note == ""
    (part,) = found.parts
    assert part.what == "steep is higher than teacher"
    leads = [value - level for value in AHEAD["steep"]]
    low, high = ttest_1samp(leads, 0.0).confidence_interval()
    assert f"{low:.3g} to {high:.3g}" in part.numbers


@pytest.mark.parametrize("facts", [[], [{"test_acc": 1.0}, {"test_acc": 2.0}], [{"test_top5": 1}]])
def test_without_one_teacher_nothing_is_compared_with_it(facts: list[dict[str, Any]]) -> None:
    told = experiment(better="steep", worse="teacher")
    (found,) = judge_together(measure_stated_findings(told, rows(AHEAD), teachers=facts))
    assert found.verdict == "not judged"
    assert "test_acc of one teacher is not recorded" in found.note


def test_an_arm_that_the_run_was_made_without_is_named() -> None:
    told = experiment(better="steep", worse="kd")
    told = told.model_copy(update={"arms": {"kd": told.arms["kd"]}})
    assert "the run has no arm 'steep'; its arms are kd" in only(told, rows(AHEAD)).note


@pytest.mark.parametrize(
    ("metrics", "verdict", "note"),
    [
        (
            rows({arm: values[:2] for arm, values in AHEAD.items()}),
            "too few seeds",
            "2 seeds, and a verdict takes 3",
        ),
        (rows(AHEAD, epochs=1), "not judged", "steep is at epoch 1 of 2"),
        (rows({"kd": AHEAD["kd"]}), "not judged", "unknown arm 'steep'"),
        (rows(AHEAD).iloc[:0], "not judged", "no finished epoch"),
    ],
)
def test_rows_that_are_missing_give_no_verdict(
    metrics: pd.DataFrame, verdict: str, note: str
) -> None:
    found = only(experiment(better="steep", worse="kd"), metrics)
    assert found.verdict == verdict
    assert note in found.note


def test_arms_with_other_batches_are_not_paired_and_say_so() -> None:
    arms = ARMS | {"steep": {"rank": {"grad": True}, "training": {"batch_size": 32}}}
    found = only(experiment(arms, better="steep", worse="kd"), rows(AHEAD))
    assert "not paired, since training.batch_size differs" in found.note
    assert found.verdict == "supported"
