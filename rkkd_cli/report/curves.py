"""The ablation curves: a quantity against the epoch, arm by arm, mean and spread over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rkkd_cli.analysis.stages import learning_rate_drops
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import Curve, curves_of
from rkkd_cli.report.gradients import gradients_figure, has_diagnostics
from rkkd_cli.report.style import COLOURS, DASHES, STYLE, save_figure


class Quantity(NamedTuple):
    """A column of metrics.csv as it is drawn: file name, axis label, title."""

    column: str
    label: str
    title: str


QUANTITIES = (
    Quantity("rank", "ranking loss (−1: same order)", "Ranking loss, training"),
    Quantity("kl", "KL divergence × T² (nats)", "KL divergence, training"),
    Quantity("test_acc", "test accuracy (%)", "Test accuracy"),
)


def draw_figures(
    runs: Sequence[tuple[str, pd.DataFrame]], folder: Path, formats: Sequence[str]
) -> list[Path]:
    """Draw a figure per quantity, the sheet of all three and the diagnostics; return the files."""
    curves = curves_of(runs)
    paths: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        for quantity in QUANTITIES:
            figure = Figure(figsize=(5.2, 3.6), layout="constrained")
            axes = figure.subplots()
            _draw(axes, quantity, curves)
            axes.legend()
            paths += save_figure(figure, folder, quantity.column, formats)
        names = [name for name, _ in runs]
        paths += save_figure(_sheet(curves, names), folder, "sheet", formats)
        if has_diagnostics(curves):
            paths += save_figure(gradients_figure(curves, names), folder, "gradients", formats)
    return paths


def _sheet(curves: Sequence[Curve], names: Sequence[str]) -> Figure:
    figure = Figure(figsize=(12.5, 4.1), layout="constrained")
    panels = figure.subplots(1, len(QUANTITIES))
    for axes, quantity in zip(panels, QUANTITIES, strict=True):
        _draw(axes, quantity, curves)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    figure.suptitle(printable(" and ".join(names)), fontsize=10)
    return figure


def _draw(axes: Axes, quantity: Quantity, curves: Sequence[Curve]) -> None:
    for epoch in sorted(set().union(*(learning_rate_drops(c.rows) for c in curves))):
        axes.axvline(epoch, color="#999999", linewidth=0.8, linestyle=":", zorder=0.5)
    for number, curve in enumerate(curves):
        by_epoch = curve.rows.groupby("epoch")[quantity.column]
        mean, deviation = by_epoch.mean(), by_epoch.std(ddof=1)
        colour = COLOURS[number % len(COLOURS)]
        marker = "o" if len(mean) == 1 else None
        axes.plot(
            mean.index, mean, label=curve.label, color=colour, linewidth=1.5, marker=marker,
            linestyle=DASHES[number % len(DASHES)],
        )  # fmt: skip
        if deviation.notna().any():
            low, high = mean - deviation, mean + deviation
            axes.fill_between(mean.index, low, high, color=colour, alpha=0.18, linewidth=0)
        fewer = _last_of_a_seed(curve.rows)
        if fewer:
            axes.plot(fewer, mean.loc[fewer], "x", color=colour, markersize=5)
    axes.set(title=quantity.title, xlabel="epoch", ylabel=quantity.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _last_of_a_seed(rows: pd.DataFrame) -> list[int]:
    """Return the epochs after which the mean is over fewer seeds than before."""
    ends = rows.groupby("seed")["epoch"].max()
    return sorted({int(epoch) for epoch in ends if epoch < ends.max()})
