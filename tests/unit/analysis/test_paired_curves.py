"""Paired differences over the epochs: which arms are pairs, their means and their intervals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_rows import arm_seed_epoch, metric_row
from report_runs import made_record
from scipy import stats

from rkkd_cli.analysis.paired_curves import (
    MAX_PAIRS,
    arm_pairs,
    mean_and_interval,
    paired_differences,
)
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import load_experiment


def rows(arm: str, values: dict[int, list[float]]) -> pd.DataFrame:
    """Return the rows of an arm from each seed's values of KL."""
    return pd.DataFrame(
        metric_row(arm, seed, epoch, kl=value)
        for seed, by_epoch in values.items()
        for epoch, value in enumerate(by_epoch, 1)
    )


def test_seeds_are_paired_and_those_of_one_arm_alone_are_left_out() -> None:
    first = rows("kd", {0: [1.0, 2.0], 1: [3.0, 4.0], 2: [9.0, 9.0]})
    second = rows("kd_rank", {1: [2.0, 5.0], 0: [4.0, 8.0], 7: [0.0, 0.0]})
    differences = paired_differences(first, second, "kl")
    assert list(map(str, differences.columns)) == ["0", "1"]
    assert differences.to_numpy().tolist() == [[3.0, -1.0], [6.0, 1.0]]


def test_the_band_is_the_t_interval_of_each_epoch() -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(3, 5)), index=[1, 2, 3])
    band = mean_and_interval(table)
    expected = stats.ttest_1samp(table.to_numpy(), 0, axis=1).confidence_interval(0.95)
    assert band["mean"].tolist() == pytest.approx(table.to_numpy().mean(axis=1))
    assert band["low"].tolist() == pytest.approx(expected.low)
    assert band["high"].tolist() == pytest.approx(expected.high)


def test_an_epoch_of_one_seed_has_a_mean_and_no_interval() -> None:
    band = mean_and_interval(pd.DataFrame({0: [1.0, 2.0], 1: [3.0, np.nan]}, index=[1, 2]))
    assert band["mean"].tolist() == [2.0, 2.0]
    assert band["low"].isna().tolist() == [False, True]


def test_equal_differences_have_a_mean_and_no_interval() -> None:
    table = pd.DataFrame({0: [0.1 + 0.2, 1.0], 1: [0.3, 2.0]}, index=[1, 2])  # one by rounding
    assert mean_and_interval(table)["low"].isna().tolist() == [True, False]


def test_a_value_that_diverged_has_no_difference() -> None:
    first, second = rows("kd", {0: [1.0, np.inf]}), rows("kd_rank", {0: [2.0, 3.0]})
    assert paired_differences(first, second, "kl").to_numpy().tolist() == [[1.0]]


def pairs_of(experiment: Experiment) -> list[tuple[str, str]]:
    frame = pd.DataFrame(metric_row(*row) for row in arm_seed_epoch(tuple(experiment.arms), 1, 1))
    return arm_pairs(replace(made_record("run", frame), experiment=experiment))


@pytest.mark.parametrize(
    ("arms", "pairs"),
    [
        ({"kd": {}, "kd_rank": {"rank": {"grad": True}}}, [("kd", "kd_rank")]),
        (
            {"kd": {}, "none": {"method": {"name": "ce"}}, "dist": {"method": {"name": "dist"}}},
            [("none", "kd"), ("none", "dist")],
        ),
        ({"a": {}, "b": {"training": {"lr": 0.1}}}, [("a", "b")]),
        ({"a": {}, "b": {"training": {"batch_size": 16}}}, []),  # other batches
        ({"a": {}}, []),
        ({f"a{n}": {"training": {"lr": 0.1 + n}} for n in range(MAX_PAIRS + 2)}, []),
    ],
)
def test_pairs_are_arms_with_their_control(
    arms: dict[str, dict[str, object]], pairs: list[tuple[str, str]]
) -> None:
    assert pairs_of(load_experiment("rank_grad").model_copy(update={"arms": arms})) == pairs


def test_every_method_with_the_ranking_loss_has_its_own_control() -> None:
    names = [pair[1] for pair in pairs_of(load_experiment("kendall_plugin"))]
    assert len(names) == 6
    assert all(name.endswith("rank") for name in names)
