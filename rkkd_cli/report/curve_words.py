"""What figures of curves say: what is subtracted from what, what bands are, labels of axes."""

from rkkd_cli.analysis.paired_curves import pairs_text
from rkkd_cli.errors import printable
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.style import shorten_label
from rkkd_cli.report.words import Quantity

INTERVAL = "mean and 95 % interval at each epoch"


def pair_text(picture: CurvePicture, column: str | None = None) -> str:
    """Return what is subtracted from what: in the figure, or where a column is on one scale."""
    pairs = picture.differences if column is None else picture.differences_of(column)
    if len(pairs) == 1:
        return shorten_label(pairs[0].label)
    names = {(difference.first.arm, difference.second.arm): None for difference in pairs}
    if len(names) == 1:
        return "{1} − {0} of each run".format(*next(iter(names)))
    return printable(pairs_text([*names], {curve.arm for curve in picture.curves}))


def differences_title(picture: CurvePicture, column: str | None = None) -> str:
    """Return what is subtracted from what, and what the bands are if there are any."""
    columns = [column] if column else picture.task.curves
    drawn = [one for one in columns if picture.differences_of(one)]
    bands = "" if all(map(picture.why_no_interval, drawn)) else f", {INTERVAL}"
    return f"{pair_text(picture, column)}{bands}"


def spread_text(picture: CurvePicture, column: str) -> str:
    """Return what the bands of a column's differences are, or why there are none."""
    return picture.why_no_interval(column) or INTERVAL


def axis_label(quantity: Quantity, picture: CurvePicture) -> str:
    """Return the name and unit of a quantity, and whether the arms' scales differ."""
    caveat = "\narms on different scales" if quantity.column in picture.on_other_scales else ""
    return f"{quantity.label}{caveat}"
