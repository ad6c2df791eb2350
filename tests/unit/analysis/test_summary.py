"""Each arm at its last epoch: mean, sample standard deviation, how many seeds."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import metric_row

from rkkd_cli.analysis.summary import (
    MeanStd,
    mean_std,
    progress_by_arm,
    summarise,
    summarise_selected,
)
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.records.metrics import columns


def frame(*rows: tuple[str, int, int, float]) -> pd.DataFrame:
    """Return metrics from (arm, seed, epoch, value of every column)."""
    return pd.DataFrame([metric_row(*row) for row in rows], columns=list(columns(False)))


def with_validation(*rows: tuple[str, int, int, float, float]) -> pd.DataFrame:
    """Return metrics from (arm, seed, epoch, value of every column, value of val_*)."""
    metrics = frame(*(row[:4] for row in rows))
    return metrics.assign(val_acc=[row[4] for row in rows], val_kl=[row[4] for row in rows])


def test_mean_and_sample_deviation_of_three_seeds() -> None:
    (summary,) = summarise(frame(("kd", 0, 1, 90.0), ("kd", 1, 1, 94.0), ("kd", 2, 1, 95.0)))
    assert (summary.arm, summary.epoch, summary.n) == ("kd", 1, 3)
    assert set(summary.metrics) == set(CLASSIFICATION.summary_columns)
    for value in summary.metrics.values():
        assert value.mean == 93.0
        assert value.std == pytest.approx(math.sqrt(7.0))  # (9 + 1 + 4) / 2


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=10))
@settings(max_examples=50)
def test_mean_and_deviation_agree_with_the_formulas(values: list[float]) -> None:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    measured = mean_std(pd.Series(values))
    assert measured.mean == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert measured.std == pytest.approx(math.sqrt(variance), rel=1e-6, abs=1e-6)


def test_one_seed_has_no_spread() -> None:
    (summary,) = summarise(frame(("kd", 0, 1, 90.0)))
    assert summary.n == 1
    assert summary.metrics["test_acc"] == MeanStd(90.0, None, 1)


def test_equal_seeds_have_a_spread_of_nothing() -> None:
    (summary,) = summarise(frame(("kd", 0, 1, 90.0), ("kd", 1, 1, 90.0)))
    assert summary.metrics["test_acc"] == MeanStd(90.0, 0.0, 2)


def test_only_the_last_epoch_counts() -> None:
    (summary,) = summarise(frame(*[("kd", 0, epoch, float(epoch)) for epoch in (1, 2, 3)]))
    assert summary.epoch == 3
    assert summary.metrics["kl"].mean == 3.0


def test_arms_stand_in_the_order_of_the_file() -> None:
    rows = [("zeta", 0, 1, 1.0), ("alpha", 0, 1, 2.0), ("zeta", 0, 2, 3.0)]
    assert [summary.arm for summary in summarise(frame(*rows))] == ["zeta", "alpha"]


def test_an_arm_that_stopped_early_is_shown_at_the_last_epoch_it_reached() -> None:
    stopped = [("bad", 0, 1, 5.0)]
    whole = [("kd", 0, epoch, float(epoch)) for epoch in (1, 2, 3)]
    bad, kd = summarise(frame(*stopped, *whole))
    assert (bad.epoch, bad.n, bad.metrics["kl"].mean) == (1, 1, 5.0)
    assert (kd.epoch, kd.n, kd.metrics["kl"].mean) == (3, 1, 3.0)


def test_a_seed_that_stopped_early_is_not_among_the_n_of_the_last_epoch() -> None:
    (summary,) = summarise(
        frame(("kd", 0, 1, 1.0), ("kd", 1, 1, 2.0), ("kd", 2, 1, 9.0), ("kd", 0, 2, 4.0),
              ("kd", 1, 2, 6.0))
    )  # fmt: skip
    assert (summary.epoch, summary.n) == (2, 2)
    assert summary.metrics["kl"].mean == 5.0
    assert summary.metrics["kl"].std == pytest.approx(math.sqrt(2.0))


def test_a_seed_that_ended_early_counts_with_its_own_last_epoch() -> None:
    rows = [("kd", 0, 1, 1.0), ("kd", 1, 1, 2.0), ("kd", 2, 1, 9.0), ("kd", 0, 2, 4.0)]
    (summary,) = summarise(frame(*rows), [("kd", 1)])
    assert (summary.epochs, summary.n, summary.epoch_text) == ({0: 2, 1: 1}, 2, "1–2")
    assert summary.metrics["kl"].mean == 3.0


@pytest.mark.parametrize(
    ("monitor", "epochs"), [("val_acc", {0: 2, 1: 1}), ("val_kl", {0: 1, 1: 2})]
)
def test_an_epoch_is_selected_by_the_arms_own_monitor_the_first_of_equal_ones(
    monitor: str, epochs: dict[int, int]
) -> None:
    seed_0 = [("kd", 0, 1, 5.0, 0.1), ("kd", 0, 2, 7.0, 0.9), ("kd", 0, 3, 9.0, 0.9)]
    seed_1 = [("kd", 1, 1, 1.0, 0.9), ("kd", 1, 2, 3.0, 0.5), ("kd", 1, 3, 9.0, 0.6)]
    others = [("ce", 0, 1, 1.0, 0.1)]
    metrics = with_validation(*seed_0, *seed_1, *others)
    (summary,) = summarise_selected(metrics, {"kd": monitor})
    assert (summary.arm, summary.epochs) == ("kd", epochs)
    assert summary.metrics["test_acc"].mean == 4.0


def test_progress_is_the_mean_at_the_epoch_that_all_begun_seeds_have_reached() -> None:
    rows = [("kd", 0, epoch, 10.0 * epoch) for epoch in (1, 2, 3)]
    metrics = frame(*rows, ("kd", 1, 1, 30.0), ("kd", 1, 2, 40.0))
    (arm,) = progress_by_arm(metrics)
    assert (arm.epochs, arm.epoch) == ({0: 3, 1: 2}, 2)
    assert (arm.metrics["kl"].now, arm.metrics["kl"].curve) == (30.0, [20.0, 30.0])
    (ended,) = progress_by_arm(metrics, ended_early={("kd", 1)})
    assert (ended.epoch, ended.metrics["kl"].now) == (3, 30.0)
    assert progress_by_arm(frame()) == []


def test_a_run_without_rows_has_no_summaries() -> None:
    assert summarise(frame()) == []
    assert summarise_selected(frame(), {"kd": "val_acc"}) == []


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (MeanStd(93.0, math.sqrt(7.0), 2), 2, "93.00 ± 2.65"),
        (MeanStd(93.456, None, 1), 1, "93.5"),
        (MeanStd(-0.5, 0.0, 2), 4, "-0.5000 ± 0.0000"),
    ],
)
def test_a_spread_reads_as_mean_plus_minus_deviation(
    value: MeanStd, digits: int, text: str
) -> None:
    assert value.text(digits) == text
