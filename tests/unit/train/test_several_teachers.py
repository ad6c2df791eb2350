"""Arms that learn from one of several teachers, from their mean, or from a share of each."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import (
    NEVER,
    Arms,
    Row,
    checkpoints_of,
    events_of,
    going_on,
    rows_by_arm,
    rows_of,
)
from trained import experiment_with as with_one_teacher

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model
from rkkd_cli.records.metrics import columns
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.events import BatchDone, TeacherReady
from rkkd_cli.train.stop_controller import StopController

RECIPE = "training={epochs=2, lr=0.05}"
BIG = f"{{model='digits_teacher', {RECIPE}}}"
SMALL = f"{{model='cnn2', seed=1, {RECIPE}}}"
TWO = f"teachers={{big={BIG}, small={SMALL}}}"

SHARES = {"big": 3.0, "small": 1.0}
ARMS: Arms = {
    "big": {"method": {"teacher": "big"}},
    "small": {"method": {"teacher": "small"}, "rank": {"grad": True}},
    "logits": {"method": {"teacher": "mean_logits"}},
    "probabilities": {"method": {"temperature": 2.0}, "rank": {"grad": True}},
    "shares": {"method": {"teacher": SHARES}, "rank": {"grad": True}},
}


def experiment_with(*overrides: str, arms: Arms | None = None) -> Experiment:
    return with_one_teacher("teacher=none", TWO, *overrides, arms=arms)


def rows_with(cache: Path, *overrides: str, arms: Arms) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*overrides, arms=arms), cache))


@pytest.fixture(scope="module")
def company(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, arms=ARMS)


def without_teacher_terms(rows: list[Row]) -> list[Row]:
    extra = {prefix + term for term in target_columns(["big", "small"]) for prefix in ("", "test_")}
    return [{name: row[name] for name in row if name not in extra} for row in rows]


def test_one_teacher_in_a_list_gives_the_numbers_of_one_alone(cache: Path) -> None:
    alone = rows_of(events_of(with_one_teacher("teacher.seed=1"), cache))
    recipe = dict(with_one_teacher().teacher.training or ())
    text = ", ".join(f"{key}={_toml(value)}" for key, value in recipe.items() if value is not None)
    listed = f"teachers={{one={{model='digits_teacher', seed=1, training={{{text}}}}}}}"
    experiment = with_one_teacher("teacher=none", listed, "method.teacher=one")
    assert rows_of(events_of(experiment, cache)) == alone


def _toml(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(list(value) if isinstance(value, tuple) else value).lower()


def test_every_row_has_the_terms_to_each_teacher_and_to_their_means(
    company: dict[str, list[Row]],
) -> None:
    terms = target_columns(["big", "small"])
    assert len(terms) == 2 * 4
    for row in company["shares"]:
        assert set(row) == set(columns(False, teacher_terms=terms)) - {
            "epoch_seconds", "images_per_second",
        }  # fmt: skip
        assert all(math.isfinite(row[name]) for name in row if name != "arm")


@pytest.mark.parametrize(
    ("arm", "target"),
    [("big", "big"), ("small", "small"), ("logits", "mean_logits"),
     ("probabilities", "mean_probabilities")],
)  # fmt: skip
def test_what_is_recorded_first_is_to_what_the_arm_learns_from(
    arm: str, target: str, company: dict[str, list[Row]]
) -> None:
    for row in company[arm]:
        for term in ("kl", "rank", "test_kl", "test_rank"):
            assert row[term] == row[f"{term}_{target}"]
    others = {"big", "small", "mean_logits", "mean_probabilities"} - {target}
    assert all(row["kl"] != row[f"kl_{other}"] for row in company[arm] for other in others)


def test_a_share_of_each_is_recorded_as_the_weighted_sum(company: dict[str, list[Row]]) -> None:
    for row in company["shares"]:
        for term in ("kl", "rank", "test_kl", "test_rank"):
            expected = 0.75 * row[f"{term}_big"] + 0.25 * row[f"{term}_small"]
            assert row[term] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("arm", "config"), [("big", BIG), ("small", SMALL)])
def test_an_arm_that_learns_from_one_of_them_is_as_with_that_teacher_alone(
    arm: str, config: str, cache: Path, company: dict[str, list[Row]]
) -> None:
    overrides = {**ARMS[arm], "method": {}}
    experiment = with_one_teacher("teacher=none", f"teacher={config}", arms={arm: overrides})
    alone = rows_by_arm(events_of(experiment, cache))[arm]
    assert without_teacher_terms(company[arm]) == alone


def test_that_holds_for_mixed_images_and_smoothed_labels(cache: Path) -> None:
    how = ("dataset.mixup_alpha=0.4", "training.label_smoothing=0.1", "training.epochs=1")
    rows = rows_with(cache, *how, arms={"big": ARMS["big"], "shares": ARMS["shares"]})
    alone = with_one_teacher("teacher=none", f"teacher={BIG}", *how, arms={"big": {}})
    assert without_teacher_terms(rows["big"]) == rows_by_arm(events_of(alone, cache))["big"]


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_alone_gives_the_same_rows_as_in_company(
    arm: str, cache: Path, company: dict[str, list[Row]]
) -> None:
    assert rows_with(cache, arms={arm: ARMS[arm]}) == {arm: company[arm]}


def test_the_order_of_arms_and_the_scale_of_weights_change_nothing(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    arms = dict(reversed([*ARMS.items()]))
    arms["shares"] = {**ARMS["shares"], "method": {"teacher": {"big": 0.75, "small": 0.25}}}
    assert rows_with(cache, arms=arms) == company


def test_stacked_arms_learn_the_same(cache: Path, company: dict[str, list[Row]]) -> None:
    stacked = rows_with(cache, "stacked=true", arms=ARMS)
    for arm, rows in stacked.items():
        for row, expected in zip(rows, company[arm], strict=True):
            assert row["ce"] == pytest.approx(expected["ce"], rel=1e-4)
            assert row["kl_small"] == pytest.approx(expected["kl_small"], rel=1e-3)


def test_kept_logits_change_nothing_and_serve_one_teacher_alone_too(
    tmp_path: Path, company: dict[str, list[Row]]
) -> None:
    for _ in range(2):
        assert rows_with(tmp_path, "cache_teacher=exact", arms=ARMS) == company
        assert len([*tmp_path.glob("teacher-outputs/*/*.npy")]) == 2 * 2  # teachers, epochs
    alone = with_one_teacher("teacher=none", f"teacher={BIG}", "cache_teacher=exact")
    events_of(alone, tmp_path)
    assert len([*tmp_path.glob("teacher-outputs/*/*.npy")]) == 2 * 2


def test_from_a_checkpoint_exactly_the_remaining_rows_follow(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    experiment, controller, steps = experiment_with(arms=ARMS), StopController(NEVER), 0

    def ask(event: object) -> None:
        nonlocal steps
        steps += isinstance(event, BatchDone)
        controller.stop_requested = steps >= 6

    before = events_of(experiment, cache, None, controller, ask)
    _, checkpoint = checkpoints_of(before)[-1]
    after = events_of(experiment, cache, going_on(checkpoint))
    assert rows_by_arm([*before, *after]) == company


def test_a_run_goes_on_with_the_same_teachers_only(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.pt"

    def experiment_of(seed: int) -> Experiment:
        torch.manual_seed(seed)
        torch.save(build_model("cnn2", 10, 1, (8, 8)).state_dict(), file)
        small = f"teachers.small={{model='cnn2', weights='{file}'}}"
        return experiment_with(small, "training.epochs=1", arms={"big": ARMS["big"]})

    controller = StopController(0.0)
    _, checkpoint = checkpoints_of(events_of(experiment_of(0), cache, None, controller))[0]
    with pytest.raises(UserError, match="one of the teachers big, small is not the one that the"):
        events_of(experiment_of(1), cache, going_on(checkpoint))


def test_two_ranks_end_with_the_same_rows(
    cache: Path, together: Callable[..., list[Any]], company: dict[str, list[Row]]
) -> None:
    experiment = experiment_with(arms=ARMS)

    def work(group: TorchrunGroup) -> list[Row]:
        return rows_of(events_of(experiment, cache, group=group))

    first, second = together(2, work)
    assert first == second
    for row in first:
        expected = company[row["arm"]][row["epoch"] - 1]
        assert row["kl_big"] == pytest.approx(expected["kl_big"], rel=0.05)


def test_the_manifest_gets_the_facts_of_each(cache: Path) -> None:
    events = events_of(experiment_with(arms={"big": ARMS["big"]}), cache)
    ready = [event.facts for event in events if isinstance(event, TeacherReady)]
    assert [(facts["name"], facts["model"]) for facts in ready] == [
        ("big", "digits_teacher"), ("small", "cnn2"),
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["dkd", "dist", "ctkd", "mlkd", "soft_ce"])
def test_every_method_of_logits_learns_from_shares_and_means(method: str, cache: Path) -> None:
    arms = {
        word: {"method": {"name": method, "teacher": target}}
        for word, target in {"shares": SHARES, "mean": "mean_probabilities"}.items()
    }
    for rows in rows_with(cache, "training.epochs=1", arms=arms).values():
        assert math.isfinite(rows[0]["ce"])


def test_a_method_of_features_learns_from_one_and_refuses_the_mean(cache: Path) -> None:
    arms = {word: {"method": {"name": "simkd", "teacher": word}} for word in ("big", "small")}
    rows = rows_with(cache, "training.epochs=1", arms=arms)
    assert rows["big"][0]["feature_l2"] != rows["small"][0]["feature_l2"]
    targets: list[Any] = ["mean_logits", SHARES]
    for target in targets:
        of_mean: Arms = {"a": {"method": {"name": "rkd", "teacher": target}}}
        with pytest.raises(UserError, match=r"arm a: method rkd reads features, .* big, small"):
            check_experiment(experiment_with(arms=of_mean), cache)


def test_each_has_its_own_weights_options_and_size(cache: Path, tmp_path: Path) -> None:
    file, squeezenet = tmp_path / "small.pt", "model='torchvision:squeezenet1_1'"
    torch.save(build_model("cnn2", 10, 1).state_dict(), file)
    configs = {
        "big": f"{{{squeezenet}, options={{dropout=0.2}}, image_size=32, {RECIPE}}}",
        "small": f"{{model='cnn2', weights='{file}', image_size=12, mean=[0.5], std=[0.5]}}",
    }
    arms: Arms = {
        "big": {"method": {"teacher": "big"}, "training": {"ema_decay": 0.9}},
        "small": {"method": {"name": "simkd", "teacher": "small"}, "student": {"image_size": 16}},
        "shares": {"method": {"teacher": SHARES}},
    }
    small = ("teacher=none", "training.epochs=1", "dataset.limit_train=100")
    several = f"teachers={{big={configs['big']}, small={configs['small']}}}"
    experiment = with_one_teacher(*small, several, arms=arms)
    (checked,) = check_experiment(experiment, cache)
    assert [*checked.recipes] == [experiment.teachers["big"]]
    events = events_of(experiment, cache)
    facts = [event.facts for event in events if isinstance(event, TeacherReady)]
    assert [one["input"]["image_size"] for one in facts] == [[32, 32], [12, 12]]
    assert (facts[0]["options"], facts[1]["weights"]["name"]) == ({"dropout": 0.2}, str(file))
    rows = rows_by_arm(events)
    for name, config in configs.items():
        method = {key: value for key, value in arms[name]["method"].items() if key != "teacher"}
        one: Arms = {name: {**arms[name], "method": method}}
        alone = with_one_teacher(*small, f"teacher={config}", arms=one)
        assert without_teacher_terms(rows[name]) == rows_by_arm(events_of(alone, cache))[name]
    kept = with_one_teacher(*small, several, "cache_teacher=exact", arms={"shares": arms["shares"]})
    for _ in range(2):
        assert rows_by_arm(events_of(kept, tmp_path)) == {"shares": rows["shares"]}
