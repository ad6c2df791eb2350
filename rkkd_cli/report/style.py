"""The look of all figures, and how they are saved."""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator

from rkkd_cli.files import atomic_file

# Okabe and Ito's palette without its yellow, distinct for all common kinds of colour vision; the
# last five are of Tol's muted palette. Markers differ too, for prints in grey: a line is dashed for
# what it shows, never for its arm.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
    "#882255", "#999933", "#332288", "#44AA99", "#7F7F7F",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE_COLOUR = "#555555"
DROP_COLOUR = "#cccccc"
# Replacements for colours that are too dark on a dark page.
ON_DARK = {
    "#000000": "#ffffff", "#0072B2": "#3b94d9", "#56B4E9": "#9ad4f5", "#882255": "#d07aa5",
    "#332288": "#9a8fe0", "#555555": "#b0b0b0", "#cccccc": "#4a525c",
}  # fmt: skip

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a name with dollars is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "rkkd",
}

MAX_DISTINCT_ARMS = 12  # of more, colours are not distinct and bands would cover everything
MAX_NAMES_IN_LEGEND = 8
MAX_NAMES_OVER_CURVES = 4  # of more, the legend stands below the axes
MAX_LABEL_LENGTH = 44
DPI = 150

# Arguments of savefig: PNG twice as fast as by default, the others without a date.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}
FORMATS = tuple(SAVE_OPTIONS)


class LineStyle(NamedTuple):
    """How an arm's line is drawn, and whether it has a band of the spread over seeds."""

    colour: str
    marker: str | None
    width: float
    has_band: bool


def line_styles(arms: int) -> list[LineStyle]:
    """Return the style of each arm; many arms run from dark to light in their order."""
    if arms <= MAX_DISTINCT_ARMS:
        return [
            LineStyle(COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)], 1.5, True)
            for n in range(arms)
        ]
    scale = colormaps["viridis"]
    return [LineStyle(to_hex(scale(0.92 * n / (arms - 1))), None, 0.7, False) for n in range(arms)]


def arms_in_legend(arms: int) -> list[int]:
    """Return the indices of the arms that a legend names: all, or of many an even choice."""
    if arms <= MAX_DISTINCT_ARMS:
        return list(range(arms))
    return [round(n * (arms - 1) / (MAX_NAMES_IN_LEGEND - 1)) for n in range(MAX_NAMES_IN_LEGEND)]


def shorten_label(label: str) -> str:
    """Return the label, without the middle of a long one, to leave room for the curves."""
    half = MAX_LABEL_LENGTH // 2
    return label if len(label) <= MAX_LABEL_LENGTH else f"{label[: half - 1]}…{label[-half:]}"


def legend_title(arms: int) -> str | None:
    """Return the title of a legend that does not name all arms, or None."""
    count = len(arms_in_legend(arms))
    return None if count == arms else f"{count} of {arms} arms; colours run in their order"


def add_legend(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> Legend:
    """Add a legend below the axes, in as many columns as there is room for the longest label."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = int(figure.get_figwidth() / (0.6 + 0.07 * longest))  # inches of the line and a letter
    columns = max(1, min(4, len(handles), room))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.18 * max(rows - 2, 0))
    return figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def number_epochs(axes: Axes, last: int) -> None:
    """Let the axis of epochs reach from 1 to the ``last``, with whole numbers."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlim(0.5, last + 0.5)


def set_title(figure: Figure, title: str) -> None:
    """Set the title of a whole figure, in as many lines as its width needs."""
    width = figure.get_figwidth()
    size = 10 if width > 6 else 8
    letters = int(width * 135 / size)
    figure.suptitle("\n".join(textwrap.wrap(title, letters)), fontsize=size)


def save_figure(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write the figure in each format, atomically; return the files."""
    figure.set_dpi(DPI)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    layout = figure.get_layout_engine()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in Chinese: boxes
        if layout is not None:  # compute it once: each savefig would compute it twice
            layout.execute(figure)
            figure.set_layout_engine(None)
        for path in paths:
            kind = path.suffix[1:]
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, dpi=DPI, **SAVE_OPTIONS[kind])
    return paths
