"""The curves of a page as numbers: panels, their lines, and the arms that are shown at first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.report import gradients
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.curves import QUANTITIES
from rkkd_cli.report.published_lines import PublishedLine, published_lines
from rkkd_cli.report.style import COLOURS

MAX_SHOWN_AT_FIRST = 8
MAX_ARMS_DRAWN = 60  # each adds about 25 kB to the page
MAX_VALUES = 150_000  # raw values in one page: about a megabyte
DASHES = ("solid", "dashed", "dotted", "dashdot")


@dataclass(frozen=True)
class CurveLine:
    """One line: the raw values of every seed by epoch, or the values of a published curve.

    ``group`` is the index of the checkbox that shows it; published curves have their own.
    """

    label: str
    group: int
    colour: str
    dash: str
    epochs: Sequence[int]
    by_seed: Mapping[str, Sequence[float | None]]
    published: bool = False
    own_axis: bool = False


@dataclass(frozen=True)
class CurvePanel:
    """One pair of axes with its lines; ``drops`` are those of the learning rate.

    ``columns`` of metrics.csv are drawn, each with its term if that tells the lines apart.
    ``own_axis`` is the label of a second axis, for published curves of another level.
    """

    key: str
    title: str
    label: str
    columns: Mapping[str, str | None]
    lines: Sequence[CurveLine]
    drops: Sequence[float]
    logarithmic: bool = False
    own_axis: str = ""


@dataclass(frozen=True)
class ArmToggle:
    """The checkbox of an arm of a run, or of an arm of the published curves."""

    label: str
    colour: str
    shown: bool


def shown_at_first(curves: Sequence[ArmCurve]) -> list[int]:
    """Return the indices of the arms that are shown before the reader chooses any.

    Of many arms they are the baselines, the best and the worst at their last epoch.
    """
    if len(curves) <= MAX_SHOWN_AT_FIRST:
        return list(range(len(curves)))
    ends = [float(curve.rows.groupby("seed")["test_acc"].last().mean()) for curve in curves]
    baselines = [index for index, curve in enumerate(curves) if is_baseline(curve.arm)]
    extremes = [ends.index(max(ends)), ends.index(min(ends))]
    return sorted({*baselines[:MAX_SHOWN_AT_FIRST], *extremes})


def drawn_in_page(curves: Sequence[ArmCurve]) -> list[ArmCurve]:
    """Return the curves that fit into a page, in their order, with those shown at first.

    The tables have all arms.
    """
    if len(curves) <= MAX_ARMS_DRAWN:
        return list(curves)
    first = shown_at_first(curves)
    others = [index for index in range(len(curves)) if index not in first]
    drawn = sorted([*first, *others[: MAX_ARMS_DRAWN - len(first)]])
    return [curves[index] for index in drawn]


def toggles_of(curves: Sequence[ArmCurve], published: PublishedCurves | None) -> list[ArmToggle]:
    """Return the checkboxes: arms in the order of the curves, then published arms."""
    shown = shown_at_first(curves)
    arms = [
        ArmToggle(curve.label, _colour(index), index in shown) for index, curve in enumerate(curves)
    ]
    by_label = {
        line.label: ArmToggle(line.label, line.colour, shown=True)
        for quantity in QUANTITIES
        for line in published_lines(quantity.column, curves, published)
    }
    return [*arms, *by_label.values()]


def panels_of(curves: Sequence[ArmCurve], published: PublishedCurves | None) -> list[CurvePanel]:
    """Return the panels of the three ablation curves, and of the gradients if there are any."""
    epochs = _kept_epochs(curves)
    drops = sorted(set().union(*(curve.drops for curve in curves)))
    labels = [toggle.label for toggle in toggles_of(curves, published)]
    panels = []
    for q in QUANTITIES:
        columns: dict[str, str | None] = {q.column: None}
        theirs = published_lines(q.column, curves, published)
        lines = [
            *_arm_lines(curves, columns, epochs),
            *(_published_line(line, labels.index(line.label)) for line in theirs),
        ]
        own_axis = f"published, {theirs[0].caveat}" if theirs and theirs[0].caveat else ""
        panels.append(
            CurvePanel(q.column, q.title, q.label, columns, lines, drops, own_axis=own_axis)
        )
    for index, p in enumerate(gradients.recorded_panels(curves)):
        columns = {**p.columns} if len(p.columns) > 1 else dict.fromkeys(p.columns)
        lines, key = list(_arm_lines(curves, columns, epochs)), f"gradients{index}"
        panels.append(CurvePanel(key, p.title, p.label, columns, lines, drops, p.logarithmic))
    return panels


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _arm_lines(
    curves: Sequence[ArmCurve], columns: Mapping[str, str | None], epochs: set[int]
) -> Iterator[CurveLine]:
    for index, curve in enumerate(curves):
        for column, term in columns.items():
            if column not in curve.rows:
                continue
            label = curve.label if term is None else f"{curve.label}, gradient of {term}"
            dash = DASHES[index % len(DASHES)] if term is None else gradients.TERM_DASHES[term]
            rows = curve.rows[curve.rows["epoch"].isin(epochs)]
            table = rows.pivot(index="epoch", columns="seed", values=column).sort_index()
            by_seed = {str(seed): _json_values(table[seed]) for seed in table.columns}
            yield CurveLine(label, index, _colour(index), dash, table.index.tolist(), by_seed)


def _published_line(line: PublishedLine, group: int) -> CurveLine:
    epochs = [int(epoch) for epoch in line.values.index]
    return CurveLine(
        line.label, group, line.colour, "dotted", epochs, {"": _json_values(line.values)},
        published=True, own_axis=bool(line.caveat),
    )  # fmt: skip


def _json_values(values: "pd.Series[float]") -> list[float | None]:
    return [float(f"{value:.6g}") if abs(value) < float("inf") else None for value in values]


def _kept_epochs(curves: Sequence[ArmCurve]) -> set[int]:
    """Return the epochs that fit into a page: all, or every n-th and the last one of each arm."""
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.rows["epoch"].unique()})
    panels = gradients.recorded_panels(curves)
    columns = len(QUANTITIES) + sum(len(panel.columns) for panel in panels)
    values = columns * sum(len(curve.rows) for curve in curves)
    step = -(-values // MAX_VALUES)
    return {*epochs[::step], *(int(curve.rows["epoch"].max()) for curve in curves)}


def is_thinned(curves: Sequence[ArmCurve]) -> bool:
    """Whether some epochs are left out of the interactive curves."""
    return len(_kept_epochs(curves)) < len({e for c in curves for e in c.rows["epoch"].unique()})


def seeds_of(curves: Sequence[ArmCurve]) -> list[str]:
    """Return all seeds in their order, as text."""
    seeds = {int(seed) for curve in curves for seed in curve.rows["seed"].unique()}
    return [str(seed) for seed in sorted(seeds)]
