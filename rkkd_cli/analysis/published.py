"""Published accuracies, read from a CSV file, to compare the measured ones with."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkkd_cli.errors import UserError

ACCURACY_COLUMNS = ("test_acc_percent", "test_acc", "last_acc", "accuracy")


@dataclass(frozen=True)
class PublishedGrid:
    """The published accuracies of a grid, in percent; None is one that is not stated.

    ``cells`` has a column per varied key, and ``acc``.
    """

    cells: pd.DataFrame
    teacher: float | None
    baseline: float | None

    def accuracies(
        self,
        facet: Mapping[str, Any],
        axes: Sequence[str],
        rows: Sequence[Any],
        columns: Sequence[Any],
    ) -> dict[tuple[Any, Any], float]:
        """Return the accuracies of the cells of a table; of equal rows the first counts."""
        accuracies = {}
        for cell in itertools.product(rows, columns):
            matching = self.cells
            for key, value in {**facet, **dict(zip(axes, cell, strict=False))}.items():
                matching = matching[matching[key] == value]
            if len(matching):
                accuracies[cell] = float(matching["acc"].iloc[0])
        return accuracies


def read_published_grid(
    path: Path, keys: Sequence[str], student: str, teacher: str
) -> PublishedGrid:
    """Read a CSV file with one column of accuracies and one per varied key (or its last part).

    In a file with a column ``student``, rows of other students are left out. Rows without a value
    of any key state the accuracy of a model alone: its name, followed by "teacher" for the
    ``teacher`` and "no distillation" for the student. Raises UserError.
    """
    table = _read_accuracies(path)
    table = table.rename(columns={_column_of(table, key, path): key for key in keys})
    has_value = table[list(keys)].notna()
    students = table["student"].astype(str) if "student" in table else None
    is_ours = True if students is None else students.str.lower() == student.lower()
    cells = table[has_value.all(axis=1) & is_ours]
    models = table[~has_value.any(axis=1)]
    return PublishedGrid(
        cells,
        teacher=_accuracy_of_model(models, teacher, "teacher"),
        baseline=_accuracy_of_model(models, student, "no distillation"),
    )


def read_published_arms(path: Path, student: str) -> dict[str, float]:
    """Read a CSV file with a column ``arm`` and one of accuracies; an arm's last row counts.

    In a file with a column ``student``, rows of other students are left out. Raises UserError.
    """
    table = _read_accuracies(path)
    if "arm" not in table:
        raise UserError(f"{path} has no column 'arm'; is it of a grid? `rkkd table` compares those")
    if "student" in table:
        table = table[table["student"].astype(str).str.lower() == student.lower()]
    stated = table.dropna(subset=["arm", "acc"])
    return {str(arm): float(acc) for arm, acc in zip(stated["arm"], stated["acc"], strict=True)}


def has_accuracies(path: Path) -> bool:
    """Whether the file has a column of accuracies; one of curves may have none."""
    return bool({*ACCURACY_COLUMNS} & {*read_published_csv(path)})


def read_published_csv(path: Path) -> pd.DataFrame:
    """Return the table in a CSV file. Raises UserError for a file that cannot be read as one."""
    try:
        return pd.read_csv(path, skipinitialspace=True, dtype={"arm": str})
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = " ".join(str(error).split())
        raise UserError(f"published values {path} cannot be read as CSV: {reason}") from None


def _read_accuracies(path: Path) -> pd.DataFrame:
    """Return the file's table with the accuracies in a column ``acc``. Raises UserError."""
    table = read_published_csv(path)
    accuracy = next((name for name in ACCURACY_COLUMNS if name in table.columns), None)
    if accuracy is None:
        raise UserError(f"{path} has no column of accuracies; call it {ACCURACY_COLUMNS[0]}")
    if not pd.api.types.is_numeric_dtype(table[accuracy]):
        raise UserError(f"{path}: the column {accuracy} must hold numbers, in percent")
    return table.rename(columns={accuracy: "acc"})


def _column_of(table: pd.DataFrame, key: str, path: Path) -> str:
    last = key.rpartition(".")[2]
    column = next((name for name in (key, last) if name in table.columns), None)
    if column is None:
        raise UserError(f"{path} has no column {last!r} for the varied key {key}")
    return column


def _accuracy_of_model(rows: pd.DataFrame, model: str, word: str) -> float | None:
    """Return the accuracy of the first row whose name begins with the model and has the word."""
    if "student" not in rows:
        return None
    names = rows["student"].astype(str)
    of_model = names.str.lower().str.startswith(model.lower())
    matching = rows[of_model & names.str.contains(word, regex=False)]
    return float(matching["acc"].iloc[0]) if len(matching) else None
