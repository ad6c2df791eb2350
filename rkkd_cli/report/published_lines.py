"""Published curves as figures show them: dotted, in the colour of the arm of their name."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.style import COLOURS, line_styles

DOTS = (0, (1, 2))


class PublishedLine(NamedTuple):
    """``caveat`` is why the line has an axis of its own, or nothing."""

    label: str
    colour: str
    values: "pd.Series[float]"
    caveat: str


def published_lines(
    column: str, curves: Sequence[ArmCurve], published: PublishedCurves | None
) -> list[PublishedLine]:
    """Return the published lines that stand beside a column of metrics.csv."""
    numbers: dict[str, int] = {}
    every = line_styles(len(curves))
    for number, curve in enumerate(curves):
        numbers.setdefault(curve.arm, number)
    lines = []
    for stated in published.curves(column) if published else ():
        number = numbers.setdefault(stated.arm, max(numbers.values(), default=-1) + 1)
        label = printable(f"{stated.arm}, published")
        colour = every[number].colour if number < len(curves) else COLOURS[number % len(COLOURS)]
        lines.append(PublishedLine(label, colour, stated.values, stated.caveat))
    return lines


def own_axis_label(line: PublishedLine) -> str:
    """Return what stands at the axis of a published line whose level is not ours."""
    return f"published, {line.caveat}"


def source_line(published: PublishedCurves) -> str:
    """Return the sentence that names the source, in lines that fit below a figure."""
    return textwrap.fill(printable(f"Dotted: published, {published.source}"), 110)
