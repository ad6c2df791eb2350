"""Figures of one epoch, of many arms, and of arms with long or odd names."""

from pathlib import Path

import pandas as pd
import pytest
from made_rows import metric_row
from matplotlib import rc_context
from report_runs import made_picture, made_record

from rkkd_cli.report.curves import run_figures
from rkkd_cli.report.figures import figures_of_runs, save_figures
from rkkd_cli.report.style import STYLE


def rows_of(arms: list[str], epochs: int) -> pd.DataFrame:
    return pd.DataFrame(
        [metric_row(arm, 0, epoch) for arm in arms for epoch in range(1, epochs + 1)]
    )


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    for draw in run_figures(made_picture(("run", rows_of(["kd", "kd_rank"], epochs)))).values():
        figure = draw()
        figure.draw_without_rendering()
        for axes in figure.axes:
            low, high = axes.get_xlim()
            ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
            assert ticks == list(range(1, epochs + 1))


@pytest.mark.parametrize("count", [1, 5, 12, 60])
def test_a_legend_fits_into_its_figure(count: int) -> None:
    arms = [f"weight_decay=0.000{n}_temperature={n}_surrogate=softsign" for n in range(count)]
    with rc_context(STYLE):
        for draw in run_figures(made_picture(("run", rows_of(arms, 3)))).values():
            figure = draw()
            figure.draw_without_rendering()
            legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
            (legend,) = legends
            inside = figure.bbox.padded(1)
            for x, y in legend.get_window_extent().corners():
                assert inside.contains(x, y)
            if count > 4:
                assert not any(legend.get_window_extent().overlaps(a.bbox) for a in figure.axes)


def test_names_are_no_formulas_and_may_have_any_letter(tmp_path: Path) -> None:
    names = ["$x^2$", r"$\frac$", "$", "_under", "名前", "a" * 200, "<b>&amp;", "line\nbreak"]
    figures = figures_of_runs([made_record("r $\\frac$", rows_of(names, 2))])
    paths = save_figures(figures, tmp_path, ["png", "svg"])
    svg = tmp_path / "test_acc.svg"
    assert svg in paths
    assert r"$\frac$ (n = 1)" in svg.read_text(encoding="utf-8")
