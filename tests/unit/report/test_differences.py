"""The paired difference in figures, levels to compare with, figures of any column, own terms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import heights_of, legend_of, numbers, points_of
from made_rows import ARMS, arm_seed_epoch, metric_row
from matplotlib.collections import PolyCollection
from report_runs import made_picture, made_record

from rkkd_cli.analysis.paired_curves import pairs_text
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.errors import UserError
from rkkd_cli.report.curves import (
    metric_figures,
    quantity_figure,
    run_figures,
    sheet_figure,
)
from rkkd_cli.report.figures import figures_of_runs, save_figures
from rkkd_cli.report.page.tables import difference_table
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.words import quantity_of

QUANTITIES = [quantity_of(column) for column in CLASSIFICATION.curves]

LABEL = "kd_rank − kd (n = 3)"


def metrics(arms: tuple[str, ...] = ARMS, seeds: int = 3, **named: float) -> pd.DataFrame:
    """Return metrics in which kd_rank − kd is 10 + seed at every epoch."""
    return pd.DataFrame(
        metric_row(arm, seed, epoch, 20.0 + arms.index(arm) * (10.0 + seed) + epoch, **named)
        for arm, seed, epoch in arm_seed_epoch(arms, seeds, 4)
    )


def test_below_each_curve_stands_the_difference_in_its_interval() -> None:
    figure = sheet_figure(made_picture(("run", metrics())))
    for axes in figure.axes[3:]:
        assert heights_of(axes) == {LABEL: [11.0] * 4}
        (band,) = (one for one in axes.collections if isinstance(one, PolyCollection))
        half = 4.302652729911275 / np.sqrt(3)  # t(0.975; 2) · s / √n, with s = 1
        heights = {round(float(y), 9) for _, y in np.asarray(band.get_paths()[0].vertices)}
        assert heights == {round(11 - half, 9), round(11 + half, 9)}
        assert [0, 0] in [numbers(line.get_ydata()) for line in axes.lines]
    labels = [axes.get_ylabel() for axes in figure.axes[3:]]
    assert labels == [
        "difference of ranking loss", "difference of KL divergence × T² (nats)",
        "difference of test accuracy (points)",
    ]  # fmt: skip
    titles = [axes.get_title() for axes in figure.axes[3:]]
    assert titles[1] == f"{LABEL}, mean and 95 % interval at each epoch"


def test_one_seed_has_a_difference_and_says_that_it_has_no_interval() -> None:
    figure = run_figures(made_picture(("run", metrics(seeds=1))))["difference"]()
    for axes in figure.axes:
        assert heights_of(axes) == {"kd_rank − kd (n = 1)": [10.0] * 4}
        assert axes.get_title().endswith("\none seed: no interval")  # above the axes, not in them
        assert not [*axes.texts, *axes.collections]
    assert "interval" not in figure.get_suptitle()


def test_what_is_the_same_in_every_seed_has_no_band() -> None:
    frame = metrics()
    frame["kl"] = frame["seed"] + (frame["arm"] == "kd")
    picture = made_picture(("run", frame))
    rank, kl, _ = run_figures(picture)["difference"]().axes
    assert (len(rank.collections), len(kl.collections)) == (1, 0)
    assert kl.get_title() == "KL divergence, training\nthe same in every seed: no interval"
    (row,) = difference_table("KL", picture, "kl").rows
    assert [cell.text for cell in row[1:]] == ["-1.00"] * 4


def test_an_unfinished_run_says_how_many_seeds_its_difference_has_at_the_end() -> None:
    frame = metrics(seeds=2)
    frame = frame[(frame["arm"] == "kd") | (frame["seed"] == 0) | (frame["epoch"] < 3)]
    (difference,) = made_picture(("run", frame)).differences
    assert difference.label == "kd_rank − kd (n = 2, at the end 1)"


def test_only_the_arms_that_are_subtracted_are_spoken_of() -> None:
    pairs = [("kd", "a"), ("kd", "b")]
    assert pairs_text(pairs, ["kd", "a", "b"]) == "each arm − kd"
    assert pairs_text(pairs, ["plain", "kd", "a", "b"], "against") == "a and b against kd"
    many = [("kd", f"a{n}") for n in range(5)]
    assert pairs_text(many, ["plain", "kd", *(arm for _, arm in many)]) == "5 of 7 arms − kd"


def test_a_run_without_pairs_has_no_difference() -> None:
    picture = made_picture(("run", metrics(("kd",))))
    assert "difference" not in run_figures(picture)
    assert len(sheet_figure(picture).axes) == 3


def test_each_run_has_its_own_pair() -> None:
    picture = made_picture(("first", metrics()), ("second", metrics(seeds=2)))
    labels = [difference.label for difference in picture.differences]
    assert labels == ["first: kd_rank − kd (n = 3)", "second: kd_rank − kd (n = 2)"]
    (axes, *_) = run_figures(picture)["difference"]().axes
    assert list(points_of(axes)) == labels


def test_a_ranking_loss_on_two_scales_is_not_subtracted() -> None:
    record = made_record("run", metrics())
    steeper = {"kd": {}, "kd_rank": {"rank": {"grad": True, "steepness": 7.0}}}
    experiment = record.experiment.model_copy(update={"arms": steeper})
    object.__setattr__(record, "experiment", experiment)
    picture = CurvePicture.of([record])
    assert [len(picture.differences_of(q.column)) for q in QUANTITIES] == [0, 1, 1]
    rank, kl, _ = run_figures(picture)["difference"]().axes
    assert "scale of its own" in rank.texts[0].get_text()
    assert (rank.axison, kl.axison) == (False, True)
    labels = [axes.get_ylabel() for axes in sheet_figure(picture).axes[:2]]
    assert ["different scales" in label for label in labels] == [True, False]
    assert picture.why_no_difference("nckd") == "no two arms to compare have values of it"


def test_the_teacher_is_a_level_in_the_accuracies_unless_it_is_far_away() -> None:
    run = ("run", metrics())
    (axes,) = quantity_figure(QUANTITIES[2], made_picture(run, teachers=[("big", 45.0)])).axes
    assert [text.get_text() for text in axes.texts] == ["teacher big: 45.00 %"]
    assert [45.0, 45.0] in [numbers(line.get_ydata()) for line in axes.lines]
    for quantity, accuracy in ((QUANTITIES[2], 95.0), (QUANTITIES[1], 45.0)):
        (axes,) = quantity_figure(quantity, made_picture(run, teachers=[("big", accuracy)])).axes
        assert not axes.texts


def test_the_student_without_distillation_is_a_level_where_it_ends() -> None:
    picture = made_picture(("run", metrics(("baseline", "kd"))))
    (axes,) = quantity_figure(QUANTITIES[2], picture).axes
    assert [text.get_text() for text in axes.texts] == [
        "no distillation (baseline), at the end: 24.00 %"
    ]


def test_any_column_has_a_figure_of_its_curves_and_its_difference(tmp_path: Path) -> None:
    record = made_record("run", metrics())
    figures = figures_of_runs([record], metrics=["test_kendall_tau"])
    (path,) = save_figures(figures, tmp_path, ["png"])
    assert path.name == "test_kendall_tau.png"
    draw = metric_figures(CurvePicture.of([record]), ["train_acc"])["train_acc"]
    curves, difference = draw().axes
    assert curves.get_ylabel() == "training accuracy (%)"
    assert difference.get_ylabel() == "difference of training accuracy (points)"
    assert list(points_of(difference)) == [LABEL]


@pytest.mark.parametrize(
    ("metric", "reason"),
    [("test_ac", "did you mean 'test_acc'"), ("seed", "unknown metric"), ("nckd", "no arm has")],
)
def test_a_column_that_is_not_there_is_refused(metric: str, reason: str) -> None:
    frame = with_term("nckd", None)
    with pytest.raises(UserError, match=reason):
        metric_figures(made_picture(("run", frame)), [metric])


def with_term(name: str, value: float | None) -> pd.DataFrame:
    """Return metrics with the term of a method, which stands before the timing."""
    frame = metrics()
    frame.insert(frame.columns.tolist().index("epoch_seconds"), name, value)
    return frame


def test_own_terms_are_drawn() -> None:
    frame = with_term("mine_mse", 2.0)
    frame.loc[frame["arm"] == "kd", "mine_mse"] = np.nan
    figure = run_figures(made_picture(("run", frame)))["terms"]()
    (axes,) = figure.axes
    assert axes.get_title() == "Term mine_mse, training"
    heights = heights_of(axes)
    assert heights["kd_rank (n = 3)"] == [2.0] * 4
    assert legend_of(figure) == ["kd_rank (n = 3)"]
    assert "terms" not in run_figures(made_picture(("run", metrics())))


@pytest.mark.parametrize(
    ("column", "label", "title"),
    [
        ("test_acc", "test accuracy (%)", "Test accuracy"),
        ("rank", "ranking loss (−1: same order)", "Ranking loss, training"),
        ("val_kl", "validation KL divergence × T² (nats)", "Validation KL divergence"),
        ("epoch_seconds", "seconds of an epoch", "Seconds of an epoch"),
        ("nckd", "nckd", "Term nckd, training"),
    ],
)
def test_columns_have_words(column: str, label: str, title: str) -> None:
    quantity = quantity_of(column)
    assert (quantity.label, quantity.title) == (label, title)
