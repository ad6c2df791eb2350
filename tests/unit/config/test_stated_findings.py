"""Findings in a preset: what may stand there, what is refused, and that they change no number."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.config.compatibility import continued_experiment, differences, same_numbers
from rkkd_cli.config.grid import cell_hash, check_axes
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment, preset_names, read_experiment, to_toml
from rkkd_cli.config.validation import experiment_from
from rkkd_cli.errors import UserError

GOOD = {"claim": "It helps.", "better": "kd_rank", "worse": "kd"}


def stating(**changes: Any) -> Any:
    stated = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return load_experiment("rank_grad", [Override("findings", {"mine": stated})])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"worse": ["kd"], "margin": -0.5, "metric": "test_kl", "select": "best"},
        {"better": {"rank": {"grad": True}}, "worse": {"rank": {"grad": False}}},
        {"better": None, "worse": None, "same": ["kd", "kd_rank"], "within": 0.5},
    ],
)
def test_findings_are_recorded_and_read_back(changes: dict[str, Any], tmp_path: Path) -> None:
    experiment = stating(**changes)
    file = tmp_path / "experiment.toml"
    file.write_text(to_toml(experiment), encoding="utf-8")
    assert read_experiment(file) == experiment
    assert read_experiment(file).findings["mine"].claim == "It helps."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claim": ""}, "findings.mine.claim"),
        ({"claim": None}, "findings.mine.claim is missing"),
        ({"worse": None}, "better and worse, or same and within"),
        ({"same": ["kd", "kd_rank"]}, "better and worse, or same and within"),
        ({"better": None, "worse": None, "same": ["kd"], "within": 1.0}, "two or more arms"),
        (
            {"better": None, "worse": None, "same": ["kd", "kd_rank"], "within": 0.0},
            "greater than 0",
        ),
        ({"select": "first"}, "'last', 'best' or 'val'"),
        ({"margin": "much"}, "findings.mine.margin"),
        ({"margin": float("nan")}, "finite"),
        ({"better": "kd_rnk"}, "findings.mine: unknown arm 'kd_rnk'; did you mean 'kd_rank'"),
        ({"better": {"rank": {"grda": True}}}, "findings.mine: unknown key 'rank.grda'"),
        ({"bettr": "kd"}, "unknown key 'findings.mine.bettr'; did you mean 'findings.mine.better'"),
    ],
)
def test_what_is_no_finding_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        stating(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_finding_has_a_plain_name() -> None:
    with pytest.raises(UserError, match="letters, digits"):
        load_experiment("rank_grad", [Override("findings", {"a b": GOOD})])


def test_findings_change_neither_numbers_nor_cells() -> None:
    plain, other = load_experiment("rank_grad", [Override("findings", {})]), stating()
    assert plain != other
    assert same_numbers(plain, other)
    assert differences(plain, other) == ""
    assert continued_experiment(plain, other, "run") == other
    for arm, other_arm in zip(plain.resolved_arms, other.resolved_arms, strict=True):
        assert cell_hash(arm, 0) == cell_hash(other_arm, 0)


def test_findings_are_no_arms_and_cannot_be_varied() -> None:
    with pytest.raises(UserError, match="cannot be varied"):
        check_axes({"findings": ("a",)})
    arms = {"kd": {"findings": {"mine": GOOD}}, "kd_rank": {}}
    with pytest.raises(UserError, match="all arms of a run share"):
        load_experiment("rank_grad", [Override("arms", arms)])


def test_an_experiment_recorded_before_findings_is_read() -> None:
    table = tomllib.loads(to_toml(load_experiment("rank_grad")))
    del table["findings"]
    assert experiment_from(table, "x").findings == {}


@pytest.mark.parametrize("preset", preset_names())
def test_the_findings_of_a_preset_are_about_its_arms(preset: str) -> None:
    experiment = load_experiment(preset)  # refuses other arms
    assert "findings" in to_toml(experiment)
    for stated in experiment.findings.values():
        assert stated.claim.endswith(".")
        assert "\n" not in stated.claim


@pytest.mark.parametrize("preset", ["rank_grad", "kendall_channels", "kendall_steepness"])
def test_these_presets_state_findings_as_data(preset: str) -> None:
    assert load_experiment(preset).findings
