"""The ablation curves: labelled axes, means and bands over seeds, marked learning-rate drops."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import legend_of, numbers, png_shows, points_of
from made_rows import ARMS, arm_seed_epoch, metric_row
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from report_runs import made_picture, made_record

from rkkd_cli.analysis.stages import learning_rate_drops
from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.report.arms import arm_curves
from rkkd_cli.report.curves import run_figures
from rkkd_cli.report.figures import figures_of_runs, save_figures
from rkkd_cli.report.style import COLOURS, MAX_DISTINCT_ARMS
from rkkd_cli.report.words import quantity_of
from rkkd_cli.train.recipe import learning_rate

QUANTITIES = [quantity_of(column) for column in CLASSIFICATION.curves]

FIGURES = ("rank", "kl", "test_acc", "difference", "sheet", "gradients")
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


def metrics(arms: tuple[str, ...] = ARMS, seeds: int = 2, epochs: int = 3) -> pd.DataFrame:
    """Return metrics in which every value of arm a, seed s, epoch e is 10a + s + e²."""
    return pd.DataFrame(
        metric_row(arm, seed, epoch, 10.0 * arms.index(arm) + seed + epoch**2)
        for arm, seed, epoch in arm_seed_epoch(arms, seeds, epochs)
    )


def rates(values: list[float], seeds: int = 1) -> pd.DataFrame:
    rows = [
        {"seed": seed, "epoch": epoch, "lr": rate}
        for seed in range(seeds)
        for epoch, rate in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


def figures_of(*runs: tuple[str, pd.DataFrame]) -> dict[str, Figure]:
    return {name: draw() for name, draw in run_figures(made_picture(*runs)).items()}


def sheet(*runs: tuple[str, pd.DataFrame]) -> Figure:
    return run_figures(made_picture(*runs))["sheet"]()


def panels(*runs: tuple[str, pd.DataFrame]) -> list[Axes]:
    """Return the panels of the sheet with the curves, which stand above the differences."""
    return sheet(*runs).axes[:3]


def bands(axes: Axes) -> list[PolyCollection]:
    return [band for band in axes.collections if isinstance(band, PolyCollection)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of all figures in all formats, by their names."""
    folder = tmp_path_factory.mktemp("curves") / "figures"
    paths = save_figures(figures_of_runs([made_record("my-run", metrics())]), folder, list(MAGIC))
    assert set(paths) == set(folder.iterdir())
    return {path.name: path for path in paths}


def test_every_figure_is_written_in_every_format_and_is_real(written: dict[str, Path]) -> None:
    figures = figures_of(("my-run", metrics()))
    assert set(written) == {f"{figure}.{suffix}" for figure in FIGURES for suffix in MAGIC}
    assert tuple(figures) == FIGURES
    for path in written.values():
        assert path.read_bytes().startswith(MAGIC[path.suffix[1:]])
        assert path.stat().st_size > 2000
        assert path.suffix != ".png" or png_shows(path, figures[path.stem])


def test_the_same_metrics_give_the_same_svg(written: dict[str, Path], tmp_path: Path) -> None:
    figures = figures_of_runs([made_record("my-run", metrics())])
    for path in save_figures(figures, tmp_path, ["svg"]):
        assert path.read_bytes() == written[path.name].read_bytes()


def test_the_svg_holds_axis_labels_and_arm_names_as_text(written: dict[str, Path]) -> None:
    sheet = written["sheet.svg"].read_text(encoding="utf-8")
    assert ">my-run – digits: digits_teacher → digits_student, 30 epochs<" in sheet
    for quantity in QUANTITIES:
        text = written[f"{quantity.column}.svg"].read_text(encoding="utf-8")
        for word in (quantity.label, quantity.title, ">epoch<", *(f">{a} (n = 2)<" for a in ARMS)):
            assert word in text
        assert quantity.label in sheet


def test_ranking_loss_kl_and_accuracy_have_a_panel_each_with_units() -> None:
    row = metric_row("kd", 0, 1, rank=-0.5, kl=2.0, test_acc=80.0)
    figures = figures_of(("run", pd.DataFrame([row])))
    alone = [figures[name].axes[0] for name in ("rank", "kl", "test_acc")]
    for axes in (alone, figures["sheet"].axes):
        assert [panel.get_xlabel() for panel in axes] == ["epoch"] * 3
        labels = [panel.get_ylabel() for panel in axes]
        for label, words in zip(labels, ["ranking loss", "(nats)", "accuracy (%)"], strict=True):
            assert words in label
        values = [points_of(panel)["kd (n = 1)"] for panel in axes]
        assert values == [([1], [-0.5]), ([1], [2.0]), ([1], [80.0])]
    assert [legend_of(panel) for panel in alone] == [["kd (n = 1)"]] * 3
    assert legend_of(figures["sheet"]) == ["kd (n = 1)"]


def test_a_line_is_the_mean_over_seeds() -> None:
    for axes in panels(("run", metrics(seeds=3, epochs=3))):
        lines = points_of(axes)
        assert lines["kd (n = 3)"] == ([1, 2, 3], [2.0, 5.0, 10.0])
        assert lines["kd_rank (n = 3)"] == ([1, 2, 3], [12.0, 15.0, 20.0])


def test_a_band_reaches_one_sample_deviation_to_either_side() -> None:
    deviation = math.sqrt(0.5)  # of two seeds that are 1 apart
    for axes in panels(("run", metrics(("kd",), seeds=2, epochs=3))):
        (band,) = bands(axes)
        corners = {(x, round(float(y), 9)) for x, y in np.asarray(band.get_paths()[0].vertices)}
        for epoch in (1, 2, 3):
            mean = 0.5 + epoch**2
            assert (epoch, round(mean - deviation, 9)) in corners
            assert (epoch, round(mean + deviation, 9)) in corners


@pytest.mark.parametrize(("seeds", "count"), [(1, 0), (2, 2), (5, 2)])
def test_there_is_a_band_for_each_arm_only_with_more_than_one_seed(seeds: int, count: int) -> None:
    for axes in panels(("run", metrics(seeds=seeds))):
        assert len(bands(axes)) == count
        assert len(points_of(axes)) == 2


def test_a_single_epoch_is_seen_as_a_point() -> None:
    for axes in panels(("run", metrics(seeds=1, epochs=1))):
        assert {line.get_marker() for line in axes.lines} == {"o"}


def test_arms_differ_in_colour_and_in_markers_and_none_is_dashed() -> None:
    arms = tuple(f"arm{number}" for number in range(MAX_DISTINCT_ARMS))
    for axes in panels(("run", metrics(arms))):
        assert [str(line.get_color()) for line in axes.lines] == list(COLOURS)
        assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == len(arms)
        assert {line.get_linestyle() for line in axes.lines} == {"-"}
        assert len({line.get_marker() for line in axes.lines[:4]}) == 4
    assert len(set(COLOURS)) == len(COLOURS)


def test_runs_laid_over_each_other_are_named() -> None:
    runs = [("first", metrics(seeds=1)), ("second", metrics(("kd",), seeds=2))]
    labels = list(points_of(panels(*runs)[0]))
    assert labels == ["first: kd (n = 1)", "first: kd_rank (n = 1)", "second: kd (n = 2)"]


def test_the_title_of_the_sheet_names_every_run() -> None:
    subject = "digits: digits_teacher → digits_student, 30 epochs"
    title = sheet(("first", metrics()), ("second", metrics())).get_suptitle()
    assert title == f"first – {subject} and second – {subject}"


@pytest.mark.parametrize(
    ("values", "drops"),
    [
        ([0.1, 0.1, 0.01, 0.01, 0.001], [2.5, 4.5]),
        ([0.1, 0.05], [1.5]),
        ([0.1, 0.1, 0.1], []),
        ([0.1], []),
        ([0.1, 0.09, 0.08], []),
        ([0.02, 0.06, 0.1, 0.1, 0.01], [4.5]),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_drop_of_the_learning_rate_lies_between_its_two_epochs(
    values: list[float], drops: list[float], seeds: int
) -> None:
    assert learning_rate_drops(rates(values, seeds)) == drops


def test_the_drops_of_a_step_schedule_are_its_milestones() -> None:
    recipe = TrainingConfig(epochs=30, lr=0.05, milestones=(0.625, 0.75, 0.875))
    values = [learning_rate(recipe, epoch + 0.95) for epoch in range(30)]
    assert learning_rate_drops(rates(values)) == [19.5, 22.5, 26.5]


def test_a_cosine_schedule_has_no_drops() -> None:
    recipe = TrainingConfig(epochs=30, lr=0.05, schedule="cosine")
    values = [learning_rate(recipe, epoch + 0.95) for epoch in range(30)]
    assert learning_rate_drops(rates(values)) == []


def test_drops_are_marked_once_for_all_arms() -> None:
    data = metrics(epochs=4)
    data.loc[data["epoch"] >= 3, "lr"] = 0.01
    for axes in panels(("run", data)):
        marks = [line for line in axes.lines if str(line.get_label()).startswith("_")]
        assert [numbers(mark.get_xdata()) for mark in marks] == [[2.5, 2.5]]


def test_where_seeds_end_early_the_mean_is_over_those_left_and_the_epoch_is_marked() -> None:
    rows = metrics(arms=("kd",), seeds=3)
    rows = rows[(rows["seed"] > 0) | (rows["epoch"] == 1)]
    (curve,) = arm_curves([("run", rows)])
    assert curve.label == "kd (n = 3, at the end 2)"
    for axes in panels(("run", rows)):
        line, mark = axes.lines
        assert numbers(line.get_ydata()) == [2.0, 5.5, 10.5]
        assert (numbers(mark.get_xdata()), numbers(mark.get_ydata())) == ([1.0], [2.0])
        assert mark.get_marker() == "x"


@pytest.mark.parametrize("name", ["rank", "kl", "test_acc", "sheet"])
def test_many_arms_are_a_scale_of_lines_without_bands_of_which_a_legend_names_some(
    name: str,
) -> None:
    figure = figures_of(("run", metrics(tuple(f"arm{number}" for number in range(45)))))[name]
    for axes in figure.axes:
        (lines,) = axes.collections
        assert isinstance(lines, LineCollection)
        assert [len(segment) for segment in lines.get_segments()] == [3] * 45
        assert numbers(lines.get_segments()[44][:, 1]) == [441.5, 444.5, 449.5]
        assert len(np.unique(np.asarray(lines.get_colors(), dtype=float), axis=0)) == 45
        assert bands(axes) == []
    (legend,) = figure.legends
    labels = legend_of(figure)
    assert labels[0].startswith("arm0 ")
    assert labels[-1].startswith("arm44 ")
    assert len(labels) == 8
    assert legend.get_title().get_text() == "8 of 45 arms; colours run in their order"
