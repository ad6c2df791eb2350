"""The sheet of detections: test images, their objects, and what teacher and students find."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from rkkd_cli.report.box_labels import place_labels
from rkkd_cli.report.detection_picture import (
    DetectionPicture,
    DetectorView,
    ImageRow,
    LabelledBox,
)
from rkkd_cli.report.style import (
    COLOURS,
    DPI,
    add_legend,
    set_title,
    shorten_label,
)

INCHES = 2.3  # across an image; a tall one is narrower
TALLEST = 1.25  # in such widths
FONT = 6.0
INCHES_PER_LETTER = 0.58 * FONT / 72
LINE = 1.5 * FONT / 72  # inches that a label is high
OBJECTS = "the objects"  # no arm has such a name: it has a space
MAX_LETTERS = 24  # of a label
BLACK = "#000000"


class BoxStyle(NamedTuple):
    """How boxes of a kind are drawn: in colours and dashes, so that grey prints show them too."""

    words: str
    colour: str
    dashes: Any
    width: float


RIGHT = BoxStyle("found: an object of this class, IoU ≥ 0.5", COLOURS[0], "-", 1.6)
WRONG = BoxStyle("wrong: another class or place, or found before", COLOURS[1], (0, (4, 1.5)), 1.4)
OBJECT = BoxStyle("object", BLACK, "-", 1.2)
MISSED = BoxStyle("object that is missed", BLACK, (0, (1, 1.2)), 1.2)
CROWD = BoxStyle("crowd", BLACK, (0, (6, 2, 1, 2)), 1.0)


def detections_figure(picture: DetectionPicture) -> Figure:
    """Return the sheet: a row for each image, with a panel of its objects and one a detector."""
    rows, detectors = picture.rows, picture.detectors
    heights = [min(TALLEST, row.pixels.shape[0] / row.pixels.shape[1]) for row in rows]
    columns = 1 + len(detectors)
    size = (INCHES * columns + 0.15 * columns, INCHES * sum(heights) + 0.1 * len(rows) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    styles = dict.fromkeys((OBJECT,))
    for row, of_row in zip(rows, panels, strict=True):
        boxes_by_panel = {OBJECTS: [(row.objects, OBJECT), (row.crowds, CROWD)]}
        boxes_by_panel |= {label: _kinds(view) for label, view in row.views.items()}
        for axes, label in zip(of_row, (OBJECTS, *detectors), strict=True):
            if row is rows[0]:
                axes.set_title(shorten_label(label), fontsize=9)
            axes.set_axis_off()
            if label in boxes_by_panel:
                kinds = boxes_by_panel[label]
                _show_image(axes, row)
                _draw_boxes(axes, [(box, style) for boxes, style in kinds for box in boxes], row)
                styles |= dict.fromkeys(style for boxes, style in kinds if boxes)
        of_row[0].text(-0.02, 0.5, row.name, transform=of_row[0].transAxes, rotation=90,
                       ha="right", va="center", fontsize=8)  # fmt: skip
    add_legend(figure, [
        Patch(facecolor="none", edgecolor=style.colour, linestyle=style.dashes,
              linewidth=style.width, label=style.words)
        for style in (OBJECT, RIGHT, WRONG, MISSED, CROWD) if style in styles
    ])  # fmt: skip
    set_title(figure, picture.title)
    return figure


def _kinds(view: DetectorView) -> list[tuple[Sequence[LabelledBox], BoxStyle]]:
    """Return what a detector sees, by how it is drawn, the most important last: on top."""
    return [(view.missed, MISSED), (view.wrong, WRONG), (view.right, RIGHT)]


def _show_image(axes: Axes, row: ImageRow) -> None:
    """Show the image in the axes, whose units are its pixels."""
    height, width = row.pixels.shape[:2]
    enlarged = max(height, width) < INCHES * DPI
    axes.imshow(row.pixels, extent=(0, width, height, 0),
                interpolation="nearest" if enlarged else "antialiased")  # fmt: skip
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def _draw_boxes(axes: Axes, boxes: Sequence[tuple[LabelledBox, BoxStyle]], row: ImageRow) -> None:
    """Draw boxes with a light border that stands out from any image, and their labels."""
    height, width = row.pixels.shape[:2]
    pixels = max(width, height / TALLEST) / INCHES  # in an inch
    for (x0, y0, x1, y1), style in ((box.corners, style) for box, style in boxes):
        for colour, dashes, line in (
            ("white", "-", style.width + 1.4),
            (style.colour, style.dashes, style.width),
        ):
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor="none", edgecolor=colour,
                          linestyle=dashes, linewidth=line, clip_on=False)
            )  # fmt: skip
    texts = [_shortened(box.text) for box, _ in boxes]
    sizes = [(pixels * (INCHES_PER_LETTER * len(text) + 0.04), pixels * LINE) for text in texts]
    places = place_labels([box.corners for box, _ in boxes], sizes, width, height)
    for text, (x0, y0, x1, y1), (_, style) in zip(texts, places, boxes, strict=True):
        ground, ink = ("white", "black") if style.colour == BLACK else (style.colour, "white")
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=ground, alpha=0.9))
        axes.text((x0 + x1) / 2, (y0 + y1) / 2, text, color=ink, fontsize=FONT, ha="center",
                  va="center_baseline")  # fmt: skip


def _shortened(text: str) -> str:
    """Return a label without the middle of a long class name; its score stays."""
    if len(text) <= MAX_LETTERS:
        return text
    return f"{text[: MAX_LETTERS - 8]}…{text[-7:]}"
