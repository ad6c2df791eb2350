"""The retrieval sheet: for each query what each arm finds, framed by whether it is right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from rkkd_cli.analysis.record import RunRecord
from rkkd_cli.errors import printable
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.style import (
    COLOURS,
    DPI,
    MAX_DISTINCT_ARMS,
    STYLE,
    add_legend,
    save_figure,
    set_title,
    shorten_label,
)

QUERIES_ACROSS = 2
INCHES = 0.45  # the longer side of an image; what follows is in such sides
GAP = 0.2  # between two images
MARGIN = 0.6  # right of a panel
QUERY_SIDE = 1.7
FRAMES: dict[bool, dict[str, Any]] = {
    True: {"edgecolor": COLOURS[0], "linewidth": 2.2, "linestyle": "-"},
    False: {"edgecolor": COLOURS[1], "linewidth": 1.2, "linestyle": (0, (3, 1.5))},
}


class FoundImages(NamedTuple):
    """The neighbours of a query in the embedding of an arm, and which are of its class."""

    label: str
    images: NDArray[np.uint8]
    right: NDArray[np.bool_]


class Query(NamedTuple):
    """A query, its class, and what each arm finds."""

    image: NDArray[np.uint8]
    name: str
    found: list[FoundImages]


class Retrieval(NamedTuple):
    """What a sheet shows, and its title."""

    title: str
    queries: Sequence[Query]

    @classmethod
    def of(cls, sheets: Sequence[tuple[str, RetrievalSheet]]) -> "Retrieval":
        """Return what labelled sheets have in common: the queries. Of many arms the first ones."""
        queries: dict[tuple[str, bytes], Query] = {}
        for label, sheet in sheets[:MAX_DISTINCT_ARMS]:
            for images, classes, right in zip(
                sheet.images, sheet.classes, sheet.right, strict=True
            ):
                name, image = str(classes[0]), images[0]
                new = Query(image, printable(name), [])
                query = queries.setdefault((name, image.tobytes()), new)
                query.found.append(FoundImages(printable(label), images[1:], right))
        return cls(_title([sheet for _, sheet in sheets]), [*queries.values()])


def read_sheets(run: RunDirectory, arms: Sequence[str]) -> list[RetrievalSheet]:
    """Return the sheets that a run has of its arms. Raises UserError for a damaged one."""
    paths = [run.retrieval(arm) for arm in arms]
    return [RetrievalSheet.read(path) for path in paths if path.is_file()]


def draw_retrieval(
    runs: Sequence[RunDirectory],
    records: Sequence[RunRecord],
    folder: Path,
    formats: Sequence[str],
) -> list[Path]:
    """Save the sheet of runs in the folder; return the files: none, if no run has one."""
    labelled = [
        (sheet.arm if len(runs) == 1 else f"{record.name}: {sheet.arm}", sheet)
        for run, record in zip(runs, records, strict=True)
        for sheet in read_sheets(run, record.arms)
    ]
    if not labelled:
        return []
    with rc_context(STYLE):
        return save_figure(retrieval_figure(Retrieval.of(labelled)), folder, "retrieval", formats)


def retrieval_figure(retrieval: Retrieval) -> Figure:
    """Return the sheet: a panel for each query, with a row for each arm."""
    queries = retrieval.queries
    labels = [shorten_label(found.label) for query in queries for found in query.found]
    label_width = (0.3 + 0.07 * max(map(len, labels))) / INCHES
    most = max(len(found.images) for query in queries for found in query.found)
    rows, tallest = (
        max(len(query.found) for query in queries),
        max(_sides(query.image)[1] for query in queries),
    )
    across = min(QUERIES_ACROSS, len(queries))
    down = -(-len(queries) // across)
    width = QUERY_SIDE + label_width + (1 + GAP) * most + MARGIN
    height = max((tallest + GAP) * rows, QUERY_SIDE * tallest)
    size = (INCHES * across * width + 0.4, INCHES * down * height + 0.32 * down + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = [*figure.subplots(down, across, squeeze=False).flat]
    for axes in panels:
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", anchor="NW")
    for axes, query in zip(panels, queries, strict=False):
        _draw_query(axes, query, QUERY_SIDE + label_width, tallest)
    words = {True: "of the query's class", False: "of another class"}
    add_legend(figure, [
        Patch(facecolor="none", label=words[right], **frame)
        for right, frame in FRAMES.items()
    ])  # fmt: skip
    set_title(figure, retrieval.title)
    return figure


def _draw_query(axes: Axes, query: Query, left: float, tallest: float) -> None:
    """Draw the query, and from ``left`` on, for each arm, a row of neighbours so high."""
    axes.set_title(shorten_label(query.name), loc="left", fontsize=9)
    _draw_image(axes, query.image, 0, 0, QUERY_SIDE)
    for row, found in enumerate(query.found):
        top = row * (tallest + GAP)
        axes.text(left - 0.3, top + tallest / 2, shorten_label(found.label), ha="right",
                  va="center", fontsize=8)  # fmt: skip
        for index, (image, right) in enumerate(zip(found.images, found.right, strict=True)):
            frame = _draw_image(axes, image, left + index * (1 + GAP), top, 1)
            frame.set(**FRAMES[bool(right)])


def _draw_image(
    axes: Axes, image: NDArray[np.uint8], left: float, top: float, side: float
) -> Rectangle:
    """Draw an image (C, H, W) whose longer side is ``side``; return its frame, not yet shown."""
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    across, down = (side * share for share in _sides(image))
    enlarged = max(pixels.shape[:2]) < side * INCHES * DPI
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255,
                interpolation="nearest" if enlarged else "antialiased",
                extent=(left, left + across, top + down, top))  # fmt: skip
    frame = Rectangle((left, top), across, down, facecolor="none", edgecolor="none", clip_on=False)
    axes.add_patch(frame)
    return frame


def _sides(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return width and height of an image as shares of the longer one."""
    _, height, width = image.shape
    return width / max(height, width), height / max(height, width)


def _title(sheets: Sequence[RetrievalSheet]) -> str:
    epochs, seeds = {sheet.epoch for sheet in sheets}, {sheet.seed for sheet in sheets}
    after = f"after epoch {epochs.pop()}" if len(epochs) == 1 else "after each arm's last epoch"
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""
    drawn = f" (the first {MAX_DISTINCT_ARMS} of {len(sheets)} arms)"
    more = drawn if len(sheets) > MAX_DISTINCT_ARMS else ""
    return f"Nearest test images {after}{seed}, the nearest first{more}"
