"""The ablation curves: quantities against the epoch, by arm, and their paired differences."""

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.records.metrics import ROW_KEY, varied_keys_in
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.bands import draw_differences, draw_means
from rkkd_cli.report.curve_words import axis_label, differences_title, pair_text
from rkkd_cli.report.gradients import gradients_figure, recorded_panels
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.published_lines import DOTS, published_lines, source_line
from rkkd_cli.report.style import (
    DROP_COLOUR,
    MAX_DISTINCT_ARMS,
    MAX_NAMES_OVER_CURVES,
    REFERENCE_COLOUR,
    add_legend,
    arms_in_legend,
    legend_title,
    line_styles,
    number_epochs,
    set_title,
    shorten_label,
)
from rkkd_cli.report.words import Quantity, quantity_of

PANELS_ACROSS = 3


def run_figures(picture: CurvePicture) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure, by file name.

    A figure per quantity, the paired differences, the sheet of all these, the terms of methods and
    of teachers and the gradients, as far as the runs have them.
    """
    figures: dict[str, Callable[[], Figure]] = {
        quantity.column: partial(quantity_figure, quantity, picture)
        for quantity in picture.main_quantities
    }
    if picture.differences:
        figures["difference"] = partial(differences_figure, picture)
    figures["sheet"] = partial(sheet_figure, picture)
    if picture.method_terms:
        figures["terms"] = partial(terms_figure, picture, picture.method_terms)
    if of_teachers := picture.teacher_terms:
        figures["teachers"] = partial(terms_figure, picture, of_teachers, len(of_teachers) // 2)
    if recorded_panels(picture.curves):
        figures["gradients"] = partial(gradients_figure, picture)
    return figures


def metric_figures(
    picture: CurvePicture, metrics: Sequence[str]
) -> dict[str, Callable[[], Figure]]:
    """Return what draws the figure of each column: its curves, and the paired differences.

    Raises UserError for a column that the runs have no values of.
    """
    rows = [curve.rows for curve in picture.curves]
    not_numbers = {*ROW_KEY, *(key for frame in rows for key in varied_keys_in([*frame.columns]))}
    columns = dict.fromkeys(c for frame in rows for c in frame.columns if c not in not_numbers)
    for metric in metrics:
        if metric not in columns:
            raise unknown_name("metric", metric, columns)
        if not any(metric in frame and frame[metric].notna().any() for frame in rows):
            raise UserError(f"no arm has values of {metric}")
    return {metric: partial(metric_figure, quantity_of(metric), picture) for metric in metrics}


def quantity_figure(quantity: Quantity, picture: CurvePicture) -> Figure:
    """Return the figure of one quantity."""
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    published_handles = draw_quantity(axes, quantity, picture)
    handles = [*_arm_handles(picture.curves), *published_handles]
    if len(handles) > MAX_NAMES_OVER_CURVES:
        add_legend(figure, handles, legend_title(len(picture.curves)))
    else:
        axes.legend(handles=handles)
    if picture.published is not None and published_handles:
        figure.supxlabel(source_line(picture.published), fontsize=7, color="#555555")
    set_title(figure, picture.title)
    return figure


def metric_figure(quantity: Quantity, picture: CurvePicture) -> Figure:
    """Return the curves of one quantity, with the paired differences beside them."""
    columns = 2 if picture.differences_of(quantity.column) else 1
    figure = Figure(figsize=(2 + 4.2 * columns, 4.1), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    published = draw_quantity(panels[0], quantity, picture)
    if columns == 2:
        draw_difference(panels[1], quantity, picture, pair_text(picture, quantity.column))
    handles = [*_arm_handles(picture.curves), *published]
    add_legend(figure, handles, legend_title(len(picture.curves)))
    set_title(figure, picture.title)
    return figure


def differences_figure(picture: CurvePicture) -> Figure:
    """Return the paired differences of all quantities side by side."""
    quantities = picture.main_quantities
    figure = Figure(figsize=(12.5 * len(quantities) / 3, 4.1), layout="constrained")
    panels = figure.subplots(1, len(quantities))
    for axes, quantity in zip(panels, quantities, strict=True):
        draw_difference(axes, quantity, picture, quantity.title)
    lines = {str(line.get_label()): line for axes in panels for line in _named_lines(axes)}
    if len(lines) > 1:
        add_legend(figure, list(lines.values()))
    set_title(figure, f"{picture.title}. {differences_title(picture)}")
    return figure


def sheet_figure(picture: CurvePicture) -> Figure:
    """Return the figure of all quantities, above their differences, with one legend below."""
    rows, quantities = 2 if picture.differences else 1, picture.main_quantities
    size = (12.5 * len(quantities) / 3, 1.1 + 3.1 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, len(quantities), squeeze=False)
    handles = {str(h.get_label()): h for h in _arm_handles(picture.curves)}
    for column, quantity in enumerate(quantities):
        published = draw_quantity(panels[0][column], quantity, picture)
        handles |= {str(handle.get_label()): handle for handle in published}
        if rows == 2:
            title = differences_title(picture) if column == 1 else ""
            draw_difference(panels[1][column], quantity, picture, title)
            if panels[1][column].axison:
                panels[0][column].set_xlabel("")
    legend = add_legend(figure, list(handles.values()), legend_title(len(picture.curves)))
    if picture.published is not None and len(handles) > len(arms_in_legend(len(picture.curves))):
        legend.set_title(source_line(picture.published), prop=FontProperties(size=7))
    set_title(figure, picture.title)
    return figure


def terms_figure(
    picture: CurvePicture, terms: Sequence[Quantity], across: int = PANELS_ACROSS
) -> Figure:
    """Return a panel for each term: those that only some methods have, or of several teachers."""
    across = min(across, len(terms))
    down = -(-len(terms) // across)
    figure = Figure(figsize=(1.4 + 3.7 * across, 1 + 3.1 * down), layout="constrained")
    panels = [*figure.subplots(down, across, squeeze=False).flat]
    for axes, term in zip(panels, terms, strict=False):
        draw_quantity(axes, term, picture)
    for unused in panels[len(terms) :]:
        unused.set_axis_off()
    handles = _arm_handles(picture.curves)
    if len(picture.curves) <= MAX_DISTINCT_ARMS:
        columns = [term.column for term in terms]
        having = [c.rows.reindex(columns=columns).notna().any(axis=None) for c in picture.curves]
        handles = [handle for handle, has in zip(handles, having, strict=True) if has]
    add_legend(figure, handles, legend_title(len(picture.curves)))
    set_title(figure, picture.title)
    return figure


def difference_figure(quantity: Quantity, picture: CurvePicture) -> Figure:
    """Return the paired differences of one quantity."""
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    draw_difference(axes, quantity, picture, quantity.title)
    if len(lines := _named_lines(axes)) > 1:
        add_legend(figure, lines)
    set_title(figure, differences_title(picture, quantity.column))
    return figure


def draw_difference(axes: Axes, quantity: Quantity, picture: CurvePicture, title: str) -> None:
    """Draw the paired differences of a quantity about zero, or say why there are none."""
    if reason := picture.why_no_difference(quantity.column):
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        axes.text(0.5, 0.5, f"no difference of {quantity.name}:\n{reason}", ha="center",
                  va="center", fontsize=8, color="#555555", transform=axes.transAxes)  # fmt: skip
        return
    _draw_drops(axes, picture)
    draw_differences(axes, picture, quantity.column)
    unit = f" ({quantity.difference_unit})" if quantity.difference_unit else ""
    no_interval = picture.why_no_interval(quantity.column)
    axes.set_title("\n".join(filter(None, (title, no_interval))), fontsize=9)
    axes.set_ylabel(f"difference of {quantity.name}{unit}")
    number_epochs(axes, max(curve.last for curve in picture.curves))


def _named_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if not str(line.get_label()).startswith("_")]


def _arm_handles(curves: Sequence[ArmCurve]) -> list[Line2D]:
    """Return the legend handles of the arms that the legend names."""
    styled = list(zip(line_styles(len(curves)), curves, strict=True))
    return [
        Line2D([], [], color=style.colour, linewidth=style.width, markersize=4,
               marker="o" if len(curve.means) == 1 else style.marker,
               label=shorten_label(curve.label))
        for style, curve in (styled[index] for index in arms_in_legend(len(curves)))
    ]  # fmt: skip


def draw_quantity(axes: Axes, quantity: Quantity, picture: CurvePicture) -> list[Line2D]:
    """Draw the arms and the levels to compare with, then the published lines, which are returned.

    These have an axis of their own if their level is not comparable.
    """
    column = quantity.column
    _draw_drops(axes, picture)
    draw_means(axes, picture.curves, column)
    for style, curve in zip(line_styles(len(picture.curves)), picture.curves, strict=True):
        if curve.ends and column in curve.means:
            axes.plot(curve.ends, curve.means[column].loc[curve.ends], "x", color=style.colour,
                      markersize=5)  # fmt: skip
    _draw_references(axes, column, picture)
    axes.set(title=quantity.title, ylabel=axis_label(quantity, picture))
    lines = published_lines(column, picture.curves, picture.published)
    ends = [int(line.values.index.max()) for line in lines]
    number_epochs(axes, max([*ends, *(curve.last for curve in picture.curves)]))
    if lines and lines[0].caveat:
        axes = axes.twinx()
        axes.set_ylabel(f"published, {lines[0].caveat}", fontsize=8, color="#555555")
        axes.spines["right"].set_visible(True)
        axes.grid(visible=False)
    drawn: list[Line2D] = []
    for line in lines:
        drawn += axes.plot(
            line.values.index, line.values, color=line.colour, linestyle=DOTS, linewidth=1.3,
            label=shorten_label(line.label),
        )  # fmt: skip
    return drawn


def _draw_drops(axes: Axes, picture: CurvePicture) -> None:
    for epoch in sorted(set().union(*(curve.drops for curve in picture.curves))):
        axes.axvline(epoch, color=DROP_COLOUR, linewidth=1.2, zorder=0.5)


def _draw_references(axes: Axes, column: str, picture: CurvePicture) -> None:
    """Draw the levels as thin lines, each with its name; the highest has it above the line."""
    styles = dict(zip(picture.curves, line_styles(len(picture.curves)), strict=True))
    levels = sorted(picture.references_of(column), key=lambda level: -level.value)
    for index, level in enumerate(levels):
        colour = styles[level.curve].colour if level.curve else REFERENCE_COLOUR
        axes.axhline(level.value, color=colour, linewidth=0.8, zorder=1.5)
        axes.annotate(
            f"{shorten_label(level.label)}: {level.value:.2f} %", (0.01, level.value),
            xycoords=("axes fraction", "data"), xytext=(0, -2 if index else 2),
            textcoords="offset points", va="top" if index else "bottom", fontsize=7, color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )  # fmt: skip
