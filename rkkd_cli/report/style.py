"""How all figures look, and how they become files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rkkd_cli.files import whole_file

# Okabe and Ito's palette without its yellow, told apart by all common kinds of colour vision;
# line styles differ too, so that print in grey can be read.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# What stands for those that are too dark on a dark page.
ON_DARK = {"#000000": "#ffffff", "#0072B2": "#3b94d9", "#56B4E9": "#9ad4f5"}
DASHES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rkkd",
}

MAX_DISTINCT_ARMS = 12  # arms, more of which no palette tells apart, and whose bands would cover everything
NAMED_OF_MANY = 8
LONGEST_LABEL = 44
DPI = 150

# How each format is written: PNG twice as fast as by default, the others without a date.
HOW: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}
FORMATS = tuple(HOW)


class LineStyle(NamedTuple):
    """How an arm's line is drawn, and whether a band around it shows the spread over seeds."""

    colour: str
    dash: Any
    width: float
    has_band: bool


def line_styles(arms: int) -> list[LineStyle]:
    """Return the look of each arm; of many their order is a scale from dark to light."""
    if arms <= MAX_DISTINCT_ARMS:
        return [
            LineStyle(COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)], 1.5, True) for n in range(arms)
        ]
    scale = colormaps["viridis"]
    return [LineStyle(to_hex(scale(0.92 * n / (arms - 1))), "-", 0.7, False) for n in range(arms)]


def named(arms: int) -> list[int]:
    """Return the numbers of the arms that a legend names: all, or of many some along the scale."""
    if arms <= MAX_DISTINCT_ARMS:
        return list(range(arms))
    return [round(n * (arms - 1) / (NAMED_OF_MANY - 1)) for n in range(NAMED_OF_MANY)]


def shortened(label: str) -> str:
    """Return a label that leaves room for the curves: the middle of a long one is left out."""
    half = LONGEST_LABEL // 2
    return label if len(label) <= LONGEST_LABEL else f"{label[: half - 1]}…{label[-half:]}"


def legend_title(arms: int) -> str | None:
    """Return what a legend says that does not name all arms."""
    count = len(named(arms))
    return None if count == arms else f"{count} of {arms} arms; colours run in their order"


def save_figure(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write the figure in each format, whole or not at all; return the files."""
    figure.set_dpi(DPI)
    _lay_out(figure)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    for path in paths:
        with whole_file(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=DPI, **HOW[path.suffix[1:]])
    return paths


def _lay_out(figure: Figure) -> None:
    """Place everything once and for all: each ``savefig`` would do it twice."""
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)
