"""Published curves, by arm and epoch, read from a CSV file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rkkd_cli.analysis.published_csv import read_published_csv
from rkkd_cli.config.tasks import TASKS
from rkkd_cli.errors import UserError

# The name of a column of metrics.csv in papers, and why its level is not comparable with ours.
# A column with our own name has our definition.
PUBLISHED_COLUMNS = {
    "rank": ("rank_loss", "normalisation not stated"),
    "kl": ("kd_loss", "not said to be × T²"),
    **{
        f"test_{metric}": (f"test_{metric}_percent", "")
        for task in TASKS.values()
        for metric in task.held_out
    },
}


class PublishedCurve(NamedTuple):
    """One arm's published values by epoch; ``caveat`` says why their level is not comparable."""

    arm: str
    values: "pd.Series[float]"
    caveat: str


@dataclass(frozen=True)
class PublishedCurves:
    """``table`` has columns arm, epoch and quantities as the ``source`` states them."""

    table: pd.DataFrame
    source: str

    def curves(self, column: str) -> list[PublishedCurve]:
        """Return the curves to compare with a column of metrics.csv, in the file's order."""
        name, caveat = column, ""
        if column not in self.table:
            name, caveat = PUBLISHED_COLUMNS.get(column, (column, ""))
        if name not in self.table:
            return []
        return [
            PublishedCurve(str(arm), rows.set_index("epoch")[name].sort_index(), caveat)
            for arm, rows in self.table.dropna(subset=[name]).groupby("arm", sort=False)
        ]


def read_published_curves(path: Path) -> PublishedCurves:
    """Read a CSV file with columns ``arm``, ``epoch`` and at least one quantity.

    A quantity named as in metrics.csv has the definition of that column; ``rank_loss`` and
    ``kd_loss`` have the source's own. Raises UserError.
    """
    table = read_published_csv(path)
    missing = next((name for name in ("epoch", "arm") if name not in table), None)
    if missing:
        raise UserError(f"{path} has no column {missing!r}: it holds no curves to draw")
    names = [name for ours, (theirs, _) in PUBLISHED_COLUMNS.items() for name in (ours, theirs)]
    quantities = [name for name in names if name in table]
    if not quantities:
        drawn = f"rank, kl or {' or '.join(task.main_column for task in TASKS.values())}"
        raise UserError(f"{path} has no column that is drawn; call one {drawn}")
    for column in ("epoch", *quantities):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(f"{path}: the column {column} must hold numbers")
    sources = table["source"].dropna().astype(str) if "source" in table else ()
    source = "; ".join(dict.fromkeys(sources)) or path.name
    return PublishedCurves(table.dropna(subset=["arm", "epoch"]), source)
