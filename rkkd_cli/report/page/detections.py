"""The sheet of detections on a page: the figure, and how much each detector finds."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context

from rkkd_cli.records.detections import DetectionSheet
from rkkd_cli.report.detection_picture import DetectionPicture, ImageRow
from rkkd_cli.report.detections import detections_figure
from rkkd_cli.report.page.stills import SHEET_DPI, data_uri
from rkkd_cli.report.page.tables import PageTable
from rkkd_cli.report.run_text import TableCell
from rkkd_cli.report.style import STYLE


def detection_context(sheets: Sequence[DetectionSheet]) -> dict[str, Any]:
    """Return the title, the figure as a data URI, and the table of a run's sheets."""
    picture = DetectionPicture.of([(sheet.arm, sheet) for sheet in sheets])
    return {
        "title": picture.title,
        "still": detection_still(picture),
        "numbers": detection_table(picture),
    }


def detection_still(picture: DetectionPicture) -> str:
    """Return the sheet as a data URI: as WebP, which takes a fourth of a PNG."""
    file = io.BytesIO()
    with rc_context({**STYLE, "font.family": "sans-serif"}):
        figure = detections_figure(picture)
        figure.savefig(file, format="webp", dpi=SHEET_DPI, pil_kwargs={"quality": 85})
    return data_uri(file.getvalue(), "image/webp")


def detection_table(picture: DetectionPicture) -> PageTable:
    """Return how many objects each detector finds in each image, and how often it is wrong."""
    rows = [
        [TableCell(label), *(_cell(row, label) for row in picture.rows)]
        for label in picture.detectors
    ]
    caption = "Objects that are found, and wrong detections, in each image"
    return PageTable(caption, ("detector", *(row.name for row in picture.rows)), rows)


def _cell(row: ImageRow, label: str) -> TableCell:
    view = row.views.get(label)
    if view is None:
        return TableCell("")
    found = len(row.objects) - len(view.missed)
    return TableCell(f"{found} of {len(row.objects)}, {len(view.wrong)} wrong", found)
