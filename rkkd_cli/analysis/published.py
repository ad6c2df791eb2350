"""Published accuracies, out of a CSV file, to stand beside the measured ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkkd_cli.errors import UserError

ACCURACIES = ("test_acc_percent", "test_acc", "last_acc", "accuracy")


@dataclass(frozen=True)
class Published:
    """``cells``: a column per varied key, and ``acc`` in percent; None is what is not stated."""

    cells: pd.DataFrame
    teacher: float | None
    baseline: float | None

    def at(
        self,
        facet: Mapping[str, Any],
        axes: Sequence[str],
        rows: Sequence[Any],
        columns: Sequence[Any],
    ) -> dict[tuple[Any, Any], float]:
        """Return the accuracies at the places of a table."""
        stated = {}
        for row in rows:
            for column in columns:
                wanted = {**facet, **dict(zip(axes, (row, column), strict=False))}
                found = self.cells
                for key, value in wanted.items():
                    found = found[found[key] == value]
                if len(found):
                    stated[row, column] = float(found["acc"].iloc[0])
        return stated


def read_published(path: Path, keys: Sequence[str], student: str, teacher: str) -> Published:
    """Read a CSV file with a column per varied key (its last part will do) and one of accuracies.

    Where there is a column ``student``, rows of other students are left out; rows without a value
    of any key state the accuracy of the ``teacher``, named with the word "teacher", or of the
    student with "no distillation". Raises UserError.
    """
    table = _read(path)
    columns = {key: _column(table, key, path) for key in keys}
    renamed = table.rename(columns={v: k for k, v in columns.items()})
    given = renamed[list(keys)].notna()
    names = renamed["student"].astype(str) if "student" in renamed else None
    cells = renamed[
        given.all(axis=1) & (True if names is None else names.str.lower() == student.lower())
    ]
    outside = renamed[~given.any(axis=1)]
    alone = _stated(outside, names, "no distillation", student)
    return Published(cells, _stated(outside, names, "teacher", teacher), alone)


def read_published_arms(path: Path, student: str) -> dict[str, float]:
    """Read a CSV file with a column ``arm`` and one of accuracies: the last one of each arm.

    Where there is a column ``student``, rows of other students are left out. Raises UserError.
    """
    table = _read(path)
    if "arm" not in table:
        raise UserError(f"{path} has no column 'arm'; is it of a grid? `rkkd table` compares those")
    if "student" in table:
        table = table[table["student"].astype(str).str.lower() == student.lower()]
    stated = table.dropna(subset=["arm", "acc"])
    return {str(arm): float(acc) for arm, acc in zip(stated["arm"], stated["acc"], strict=True)}


def has_accuracies(path: Path) -> bool:
    """Tell whether the file has a column of accuracies; one of curves may have none."""
    try:
        return bool(set(ACCURACIES) & set(pd.read_csv(path, nrows=0).columns))
    except (OSError, ValueError):  # reading it will say what is wrong
        return True


def _read(path: Path) -> pd.DataFrame:
    """Return the file's table with the accuracies in a column ``acc``. Raises UserError."""
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        why = " ".join(str(error).split())
        raise UserError(f"published values {path} cannot be read as CSV: {why}") from None
    accuracy = next((one for one in ACCURACIES if one in table.columns), None)
    if accuracy is None:
        raise UserError(f"{path} has no column of accuracies; call it {ACCURACIES[0]}")
    if not pd.api.types.is_numeric_dtype(table[accuracy]):
        raise UserError(f"{path}: the column {accuracy} must hold numbers, in percent")
    return table.rename(columns={accuracy: "acc"})


def _column(table: pd.DataFrame, key: str, path: Path) -> str:
    last = key.rpartition(".")[2]
    found = next((one for one in (key, last) if one in table.columns), None)
    if found is None:
        raise UserError(f"{path} has no column {last!r} for the varied key {key}")
    return found


def _stated(
    rows: pd.DataFrame, names: "pd.Series[str] | None", word: str, model: str
) -> float | None:
    """Return the accuracy of the first row whose name begins with the model and has the word."""
    if names is None:
        return None
    starts = names[rows.index].str.lower().str.startswith(model.lower())
    fits = starts & names[rows.index].str.contains(word, regex=False)
    found = rows[fits]
    return float(found["acc"].iloc[0]) if len(found) else None
