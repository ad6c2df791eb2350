"""The retrieval sheet: for each query what each arm finds, framed by whether it is right."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from rkkd_cli.report.retrieval_picture import Query, RetrievalPicture
from rkkd_cli.report.style import (
    COLOURS,
    DPI,
    add_legend,
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


def retrieval_figure(picture: RetrievalPicture) -> Figure:
    """Return the sheet: a panel for each query, with a row for each arm."""
    queries = picture.queries
    labels = [shorten_label(found.label) for query in queries for found in query.found]
    label_width = (0.3 + 0.07 * max(map(len, labels))) / INCHES
    most = max(len(found.images) for query in queries for found in query.found)
    rows = max(len(query.found) for query in queries)
    tallest = max(_sides(query.image)[1] for query in queries)
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
    set_title(figure, picture.title)
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
