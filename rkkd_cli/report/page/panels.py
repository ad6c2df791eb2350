"""The curves of a page as numbers: panels, their lines, and which arms are shown at first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.errors import printable
from rkkd_cli.report import gradients
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.curves import QUANTITIES
from rkkd_cli.report.published_lines import own_axis_label, published_lines
from rkkd_cli.report.style import COLOURS

MOST_AT_FIRST = 8  # more arms than these are not all shown at first
MOST_ARMS = 60  # that a page draws: each costs it about 25 kB
MOST_NUMBERS = 150_000  # raw values in one page: about a megabyte
DASHES = ("solid", "dashed", "dotted", "dashdot")
TERM_DASHES = {"kl": "solid", "rank": "dashed"}


@dataclass(frozen=True)
class CurveLine:
    """One line: the raw values of every seed by epoch, or a published line's own values.

    ``group`` is the number of the checkbox that shows it; published lines have one of their own.
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

    ``columns`` of metrics.csv are drawn, each with its term where that tells the lines apart.
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
    """A checkbox: an arm of a run, or an arm of the published curves."""

    label: str
    colour: str
    shown: bool


def colour_of(number: int) -> str:
    """Return the colour of the arm of this number."""
    return COLOURS[number % len(COLOURS)]


def shown_at_first(curves: Sequence[ArmCurve]) -> list[int]:
    """Return the numbers of the arms that are shown before anything is chosen.

    Of many arms these are the baselines, the best and the worst at their last epoch.
    """
    if len(curves) <= MOST_AT_FIRST:
        return list(range(len(curves)))
    ends = {
        number: float(curve.rows.groupby("seed")["test_acc"].last().mean())
        for number, curve in enumerate(curves)
    }
    baselines = [n for n, curve in enumerate(curves) if is_baseline(curve.arm)]
    extremes = [max(ends, key=lambda n: ends[n]), min(ends, key=lambda n: ends[n])]
    return sorted({*baselines[:MOST_AT_FIRST], *extremes})


def drawn_in_page(curves: Sequence[ArmCurve]) -> list[ArmCurve]:
    """Return the curves that a page has room for, in their order: those shown at first, and more.

    The tables have all arms.
    """
    if len(curves) <= MOST_ARMS:
        return list(curves)
    first = shown_at_first(curves)
    others = [number for number in range(len(curves)) if number not in first]
    kept = sorted([*first, *others[: MOST_ARMS - len(first)]])
    return [curves[number] for number in kept]


def groups_of(curves: Sequence[ArmCurve], published: PublishedCurves | None) -> list[ArmToggle]:
    """Return the checkboxes: arms in the order of the curves, then published arms."""
    first = shown_at_first(curves)
    arms = [ArmToggle(curve.label, colour_of(n), n in first) for n, curve in enumerate(curves)]
    stated = {
        line.label: ArmToggle(line.label, line.colour, shown=True)
        for quantity in QUANTITIES
        for line in published_lines(quantity.column, curves, published)
    }
    return [*arms, *stated.values()]


def panels_of(curves: Sequence[ArmCurve], published: PublishedCurves | None) -> list[CurvePanel]:
    """Return the three ablation curves, and the gradients where there are diagnostics."""
    kept = _kept_epochs(curves)
    drops = sorted(set().union(*(curve.drops for curve in curves)))
    names = [group.label for group in groups_of(curves, published)]
    panels = []
    for quantity in QUANTITIES:
        theirs = published_lines(quantity.column, curves, published)
        columns: dict[str, str | None] = {quantity.column: None}
        lines = [
            *_lines(curves, columns, kept),
            *(_published(line, names.index(line.label)) for line in theirs),
        ]
        caveat = own_axis_label(theirs[0]) if theirs and theirs[0].caveat else ""
        said = (quantity.column, quantity.title, quantity.label)
        panels.append(CurvePanel(*said, columns, lines, drops, own_axis=caveat))
    for number, panel in enumerate(gradients.PANELS if gradients.has_diagnostics(curves) else ()):
        of_one = dict.fromkeys(panel.columns)
        terms = {**panel.columns} if len(panel.columns) > 1 else of_one
        said = (f"gradients{number}", panel.title, panel.label)
        lines = list(_lines(curves, terms, kept))
        panels.append(CurvePanel(*said, terms, lines, drops, panel.logarithmic))
    return panels


def _lines(
    curves: Sequence[ArmCurve], columns: Mapping[str, str | None], kept: set[int]
) -> Iterator[CurveLine]:
    for number, curve in enumerate(curves):
        for column, term in columns.items():
            if column not in curve.rows:
                continue
            label = curve.label if term is None else f"{curve.label}, gradient of {term}"
            dash = DASHES[number % len(DASHES)] if term is None else TERM_DASHES[term]
            rows = curve.rows[curve.rows["epoch"].isin(kept)]
            table = rows.pivot(index="epoch", columns="seed", values=column).sort_index()
            by_seed = {str(seed): _plain(table[seed]) for seed in table.columns}
            epochs = [int(epoch) for epoch in table.index]
            yield CurveLine(label, number, colour_of(number), dash, epochs, by_seed)


def _published(line: Any, group: int) -> CurveLine:
    epochs = [int(epoch) for epoch in line.values.index]
    values = {"": _plain(line.values)}
    axis = bool(line.caveat)
    return CurveLine(line.label, group, line.colour, "dotted", epochs, values, True, axis)


def _plain(values: "pd.Series[float]") -> list[float | None]:
    return [float(f"{one:.6g}") if abs(one) < float("inf") else None for one in values]


def _kept_epochs(curves: Sequence[ArmCurve]) -> set[int]:
    """Return the epochs that fit into a page: all, or every n-th and the last ones of arms."""
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.rows["epoch"].unique()})
    panels = len(QUANTITIES) + 5 * gradients.has_diagnostics(curves)
    numbers = panels * sum(len(curve.rows) for curve in curves)
    every = -(-numbers // MOST_NUMBERS)
    return {*epochs[::every], *(int(curve.rows["epoch"].max()) for curve in curves)}


def is_thinned(curves: Sequence[ArmCurve]) -> bool:
    """Tell whether some epochs are left out of the interactive curves."""
    return len(_kept_epochs(curves)) < len({e for c in curves for e in c.rows["epoch"].unique()})


def seeds_of(curves: Sequence[ArmCurve]) -> list[str]:
    """Return all seeds, as text, in their order."""
    seeds = {int(seed) for curve in curves for seed in curve.rows["seed"].unique()}
    return [str(seed) for seed in sorted(seeds)]


def named(names: Sequence[str]) -> str:
    """Return the names of runs as one text."""
    return printable(" and ".join(names))
