"""Published curves as figures show them: dotted, in the colour of the arm of the same name."""

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
    """A published curve; if it has a ``caveat``, it is drawn on an axis of its own."""

    label: str
    colour: str
    values: "pd.Series[float]"
    caveat: str


def published_lines(
    column: str, curves: Sequence[ArmCurve], published: PublishedCurves | None
) -> list[PublishedLine]:
    """Return the published lines of a column of metrics.csv."""
    arm_index: dict[str, int] = {}
    for index, curve in enumerate(curves):
        arm_index.setdefault(curve.arm, index)
    styles = line_styles(len(curves))
    lines = []
    for stated in published.curves(column) if published else ():
        index = arm_index.setdefault(stated.arm, max(arm_index.values(), default=-1) + 1)
        label = printable(f"{stated.arm}, published")
        colour = styles[index].colour if index < len(curves) else COLOURS[index % len(COLOURS)]
        lines.append(PublishedLine(label, colour, stated.values, stated.caveat))
    return lines


def source_line(published: PublishedCurves) -> str:
    """Return the sentence that names the source, wrapped to fit below a figure."""
    return textwrap.fill(printable(f"Dotted: published, {published.source}"), 110)
