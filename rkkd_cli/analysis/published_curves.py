"""Published curves, arm by arm against the epoch, out of a CSV file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rkkd_cli.errors import UserError

# What a column of metrics.csv may be called in a file of published curves, and why its level is
# not ours then. A column of our own name has our own definition.
AS_STATED = {
    "rank": ("rank_loss", "normalisation not stated"),
    "kl": ("kd_loss", "not said to be × T²"),
    "test_acc": ("test_acc_percent", ""),
}
OWN = tuple(AS_STATED)


class PublishedCurve(NamedTuple):
    """One arm's published values by epoch; ``caveat`` is why their level is not ours, if so."""

    arm: str
    values: "pd.Series[float]"
    caveat: str


@dataclass(frozen=True)
class PublishedCurves:
    """``table`` has columns arm, epoch and quantities as the ``source`` states them."""

    table: pd.DataFrame
    source: str

    def of(self, column: str) -> list[PublishedCurve]:
        """Return the curves that stand beside a column of metrics.csv, in the file's order."""
        theirs, caveat = AS_STATED.get(column, (column, ""))
        found, caveat = (column, "") if column in self.table else (theirs, caveat)
        if found not in self.table:
            return []
        stated = self.table.dropna(subset=[found])
        return [
            PublishedCurve(str(arm), rows.set_index("epoch")[found].sort_index(), caveat)
            for arm, rows in stated.groupby("arm", sort=False)
        ]


def has_curves(path: Path) -> bool:
    """Tell whether a file of published values holds curves, and not one value an arm."""
    return "epoch" in _read(path)


def read_published_curves(path: Path) -> PublishedCurves:
    """Read a CSV file with columns ``arm``, ``epoch`` and at least one quantity.

    Quantities are called as in metrics.csv, where they have its definition, or ``rank_loss`` and
    ``kd_loss``, where they have one of their own. Raises UserError.
    """
    table = _read(path)
    missing = next((one for one in ("arm", "epoch") if one not in table), None)
    if missing:
        raise UserError(f"{path} has no column {missing!r}: it holds no curves to draw")
    given = [name for key in OWN for name in (key, AS_STATED[key][0]) if name in table]
    if not given:
        raise UserError(f"{path} has no column that is drawn; call one rank, kl or test_acc")
    for column in ("epoch", *given):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(f"{path}: the column {column} must hold numbers")
    return PublishedCurves(table.dropna(subset=["arm", "epoch"]), source_of(table, path))


def source_of(table: pd.DataFrame, path: Path) -> str:
    """Return what the column ``source`` says, or the file's name."""
    named = table["source"].dropna() if "source" in table else ()
    said = list(dict.fromkeys(str(one) for one in named))
    return "; ".join(said) or path.name


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, skipinitialspace=True, dtype={"arm": str})
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        why = " ".join(str(error).split())
        raise UserError(f"published values {path} cannot be read as CSV: {why}") from None
