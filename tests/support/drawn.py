"""What a matplotlib figure shows, as tests compare it."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from rkkd_cli.report.style import DPI


def numbers(data: object) -> list[float]:
    """Return an array of numbers as a list."""
    return [float(value) for value in np.asarray(data)]


def points_of(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the points of the lines by their labels, without those that no legend names."""
    return {
        str(line.get_label()): (numbers(line.get_xdata()), numbers(line.get_ydata()))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def heights_of(axes: Axes) -> dict[str, list[float]]:
    """Return the heights of the lines by their labels, without those that no legend names."""
    return {label: heights for label, (_, heights) in points_of(axes).items()}


def legend_of(place: Axes | Figure) -> list[str]:
    """Return the texts of the only legend of axes or of a figure."""
    (legend,) = place.legends if isinstance(place, Figure) else [place.get_legend()]
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def tick_labels(axes: Axes) -> tuple[list[str], list[str]]:
    """Return the labels of the ticks of x and of y."""
    x, y = axes.get_xticklabels(), axes.get_yticklabels()
    return [label.get_text() for label in x], [label.get_text() for label in y]


def image_of(axes: Axes) -> Any:
    """Return the values of the only image; where it has none, nan."""
    (image,) = axes.images
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)


def texts_of(axes: Axes) -> dict[tuple[float, float], str]:
    """Return what is written at (row, column) of an image."""
    return {
        (text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts
    }


def png_shows(path: Path, figure: Figure) -> bool:
    """Tell whether a PNG has the size of the figure in pixels and is not blank."""
    size = tuple(int(inches * DPI) for inches in figure.get_size_inches())
    with Image.open(path) as image:
        has_many_colours = image.convert("RGB").getcolors(maxcolors=50) is None
        return image.size == size and has_many_colours
