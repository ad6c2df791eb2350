"""How all figures look, and how they become files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rkkd_cli.files import whole_file

FORMATS = ("png", "svg", "pdf")

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


LONGEST_LABEL = 44


def shortened(label: str) -> str:
    """Return a label that leaves room for the curves: the middle of a long one is left out."""
    half = LONGEST_LABEL // 2
    return label if len(label) <= LONGEST_LABEL else f"{label[: half - 1]}…{label[-half:]}"


def save_figure(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write the figure in each format, whole or not at all; return the files."""
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    for path in paths:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:])
        with whole_file(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata)
    return paths
