"""The curves of a page as numbers: panels, their lines, and the arms that are shown at first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rkkd_cli.analysis.paired_curves import t_quantile
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.report import gradients
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.curve_words import axis_label, pair_text, spread_text
from rkkd_cli.report.picture import CurvePicture, ReferenceLevel
from rkkd_cli.report.published_lines import PublishedLine, published_lines
from rkkd_cli.report.style import COLOURS, REFERENCE_COLOUR
from rkkd_cli.report.words import Quantity, capitalised

MAX_SHOWN_AT_FIRST = 8
MAX_ARMS_DRAWN = 60  # each adds about 25 kB to the page
MAX_VALUES = 150_000  # raw values in one page: about a megabyte


@dataclass(frozen=True)
class CurveLine:
    """One line: the raw values of every seed by epoch, or ``stated`` values without seeds.

    It is shown where the checkboxes of all its ``groups`` are set. Its band is ± one sample
    standard deviation, or an ``interval`` at 95 %.
    """

    label: str
    groups: Sequence[int]
    colour: str
    dash: str
    epochs: Sequence[int]
    by_seed: Mapping[str, Sequence[float | None]]
    stated: bool = False
    own_axis: bool = False
    interval: bool = False


@dataclass(frozen=True)
class CurvePanel:
    """One pair of axes with its lines; ``drops`` are those of the learning rate.

    ``columns`` of metrics.csv are drawn, each with its term if that tells the lines apart.
    ``own_axis`` is the label of a second axis, for published curves of another level. With
    ``remark`` the panel shows paired differences, which it describes.
    """

    key: str
    title: str
    label: str
    columns: Mapping[str, str | None]
    lines: Sequence[CurveLine]
    drops: Sequence[float]
    logarithmic: bool = False
    own_axis: str = ""
    remark: str = ""


@dataclass(frozen=True)
class CurveToggle:
    """The checkbox of an arm of a run, of an arm of the published curves, or of a level."""

    label: str
    colour: str
    shown: bool


def shown_at_first(curves: Sequence[ArmCurve]) -> list[int]:
    """Return the indices of the arms that are shown before the reader chooses any.

    Of many arms they are the baselines, the best and the worst at their last epoch.
    """
    if len(curves) <= MAX_SHOWN_AT_FIRST:
        return list(range(len(curves)))
    ends = [curve.end_level for curve in curves]
    baselines = [index for index, curve in enumerate(curves) if is_baseline(curve.arm)]
    extremes = [ends.index(max(ends)), ends.index(min(ends))]
    return sorted({*baselines[:MAX_SHOWN_AT_FIRST], *extremes})


def drawn_in_page(picture: CurvePicture) -> CurvePicture:
    """Return the arms that fit into a page, in their order, with those shown at first.

    The tables have all arms.
    """
    curves = picture.curves
    if len(curves) <= MAX_ARMS_DRAWN:
        return picture
    first = shown_at_first(curves)
    others = [index for index in range(len(curves)) if index not in first]
    drawn = sorted([*first, *others[: MAX_ARMS_DRAWN - len(first)]])
    return picture.only([curves[index] for index in drawn])


def toggles_of(picture: CurvePicture) -> list[CurveToggle]:
    """Return the checkboxes: arms in the order of the curves, levels, then published arms."""
    shown, colours = shown_at_first(picture.curves), _colours(picture.curves)
    arms = [
        CurveToggle(curve.label, colours[index], index in shown)
        for index, curve in enumerate(picture.curves)
    ]
    levels = [
        CurveToggle(_level_label(level), _level_colour(level, picture), shown=True)
        for level in _levels(picture)
    ]
    by_label = {
        line.label: CurveToggle(line.label, line.colour, shown=True)
        for quantity in picture.quantities
        for line in published_lines(quantity.column, picture.curves, picture.published)
    }
    return [*arms, *levels, *by_label.values()]


def panels_of(picture: CurvePicture) -> list[CurvePanel]:
    """Return the panels: the paired differences, the curves, methods' terms, and the gradients."""
    drops = sorted(set().union(*(curve.drops for curve in picture.curves)))
    panels = [
        _difference_panel(quantity, picture, drops)
        for quantity in picture.main_quantities
        if picture.differences_of(quantity.column)
    ]
    panels += [_quantity_panel(q, picture, drops) for q in picture.quantities]
    for index, p in enumerate(gradients.recorded_panels(picture.curves)):
        columns = {**p.columns} if len(p.columns) > 1 else dict.fromkeys(p.columns)
        lines, key = list(_arm_lines(picture, columns)), f"gradients{index}"
        panels.append(CurvePanel(key, p.title, p.label, columns, lines, drops, p.logarithmic))
    return panels


def _quantity_panel(
    quantity: Quantity, picture: CurvePicture, drops: Sequence[float]
) -> CurvePanel:
    columns: dict[str, str | None] = {quantity.column: None}
    labels = [toggle.label for toggle in toggles_of(picture)]
    theirs = published_lines(quantity.column, picture.curves, picture.published)
    lines = [
        *_arm_lines(picture, columns),
        *_level_lines(quantity.column, picture, labels),
        *(_published_line(line, labels.index(line.label)) for line in theirs),
    ]
    own_axis = f"published, {theirs[0].caveat}" if theirs and theirs[0].caveat else ""
    return CurvePanel(
        quantity.column, quantity.title, axis_label(quantity, picture), columns, lines, drops,
        own_axis=own_axis,
    )  # fmt: skip


def _difference_panel(
    quantity: Quantity, picture: CurvePicture, drops: Sequence[float]
) -> CurvePanel:
    epochs, colours = _kept_epochs(picture), _colours(picture.curves)
    lines = []
    for difference in picture.differences_of(quantity.column):
        table = difference.by_seed(quantity.column)
        table = table[table.index.isin(epochs)]
        groups = [picture.curves.index(arm) for arm in (difference.first, difference.second)]
        lines.append(CurveLine(
            difference.label, groups, colours[groups[1]], "solid", table.index.tolist(),
            _by_seed(table), interval=True,
        ))  # fmt: skip
    unit = f" ({quantity.difference_unit})" if quantity.difference_unit else ""
    pair, spread = pair_text(picture, quantity.column), spread_text(picture, quantity.column)
    return CurvePanel(
        f"difference-{quantity.column}", quantity.title, f"difference{unit}", {}, lines, drops,
        remark=f"{pair}, {spread}",
    )  # fmt: skip


def _colours(curves: Sequence[ArmCurve]) -> list[str]:
    """Return a colour for each arm; those shown at first have the most different ones."""
    first = shown_at_first(curves)
    order = [*first, *(index for index in range(len(curves)) if index not in first)]
    rank = {index: place for place, index in enumerate(order)}
    return [COLOURS[rank[index] % len(COLOURS)] for index in range(len(curves))]


def _arm_lines(picture: CurvePicture, columns: Mapping[str, str | None]) -> Iterator[CurveLine]:
    colours, epochs = _colours(picture.curves), _kept_epochs(picture)
    for index, curve in enumerate(picture.curves):
        for column, term in columns.items():
            if column not in curve.rows or curve.rows[column].isna().all():
                continue
            label = curve.label
            if term is not None:
                label += f", {gradients.TERM_NAMES[term]}"
            dash = "solid" if term is None else gradients.TERM_DASHES[term]
            rows = curve.rows[curve.rows["epoch"].isin(epochs)]
            table = rows.pivot(index="epoch", columns="seed", values=column).sort_index()
            yield CurveLine(
                label, [index], colours[index], dash, table.index.tolist(), _by_seed(table)
            )


def _levels(picture: CurvePicture) -> Sequence[ReferenceLevel]:
    """Return the levels that are drawn: none beside a single epoch, where they would be points."""
    if all(len(curve.means) == 1 for curve in picture.curves):
        return []
    return picture.references_of(picture.task.main_column)


def _level_label(level: ReferenceLevel) -> str:
    return f"{capitalised(level.label)}: {level.value:.2f} %"


def _level_colour(level: ReferenceLevel, picture: CurvePicture) -> str:
    if level.curve is None:
        return REFERENCE_COLOUR
    return _colours(picture.curves)[picture.curves.index(level.curve)]


def _level_lines(column: str, picture: CurvePicture, labels: Sequence[str]) -> Iterator[CurveLine]:
    epochs = [int(epoch) for curve in picture.curves for epoch in curve.means.index]
    for level in _levels(picture) if picture.references_of(column) else ():
        label = _level_label(level)
        ends = sorted({min(epochs), max(epochs)})
        yield CurveLine(
            label, [labels.index(label)], _level_colour(level, picture), "solid", ends,
            {"": [level.value] * len(ends)}, stated=True,
        )  # fmt: skip


def _published_line(line: PublishedLine, group: int) -> CurveLine:
    epochs = [int(epoch) for epoch in line.values.index]
    return CurveLine(
        line.label, [group], line.colour, "dotted", epochs, {"": _json_values(line.values)},
        stated=True, own_axis=bool(line.caveat),
    )  # fmt: skip


def _by_seed(table: pd.DataFrame) -> dict[str, list[float | None]]:
    return {str(seed): _json_values(table[seed]) for seed in table.columns}


def _json_values(values: "pd.Series[float]") -> list[float | None]:
    return [float(f"{value:.6g}") if abs(value) < float("inf") else None for value in values]


def _kept_epochs(picture: CurvePicture) -> set[int]:
    """Return the epochs that fit into a page: all, or every n-th and the last one of each arm."""
    curves = picture.curves
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.means.index})
    of_gradients = sum(len(panel.columns) for panel in gradients.recorded_panels(curves))
    columns = len(picture.quantities) + of_gradients
    values = columns * sum(len(curve.rows) for curve in curves)
    values += len(picture.task.curves) * sum(len(pair.second.rows) for pair in picture.differences)
    step = -(-values // MAX_VALUES)
    return {*epochs[::step], *(curve.last for curve in curves)}


def is_thinned(picture: CurvePicture) -> bool:
    """Whether some epochs are left out of the interactive curves."""
    all_epochs = {epoch for curve in picture.curves for epoch in curve.means.index}
    return len(_kept_epochs(picture)) < len(all_epochs)


def seeds_of(curves: Sequence[ArmCurve]) -> list[str]:
    """Return all seeds in their order, as text."""
    seeds = {int(seed) for curve in curves for seed in curve.rows["seed"].unique()}
    return [str(seed) for seed in sorted(seeds)]


def t_quantiles(seeds: int) -> list[float]:
    """Return t(0.975; n − 1) for n = 0, 1, … seeds; 0 where there is no interval."""
    return [t_quantile(n) if n > 1 else 0.0 for n in range(seeds + 1)]
