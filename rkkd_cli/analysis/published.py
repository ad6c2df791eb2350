"""Published accuracies, read from a CSV file, to compare the measured ones with."""

import csv
import io
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkkd_cli.errors import UserError
from rkkd_cli.files import decode_text, read_file

ACCURACY_COLUMNS = ("test_acc_percent", "test_acc", "last_acc", "accuracy")
SEPARATORS = (",", ";", "\t")
DECIMAL_COMMA = re.compile(r"\d,\d")


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
    has_value = table[[*keys]].notna()
    students = table["student"].astype(str) if "student" in table else None
    is_ours = True if students is None else students.str.lower() == student.lower()
    cells = table[has_value.all(axis=1) & is_ours]
    models = table[~has_value.any(axis=1)]
    return PublishedGrid(
        cells,
        teacher=_accuracy_of_model(models, teacher, "teacher"),
        baseline=_accuracy_of_model(models, student, "no distillation"),
    )


def read_published_arms(
    path: Path, student: str, arms: Collection[str] | None = None
) -> dict[str, float]:
    """Read a CSV file with a column ``arm`` and one of accuracies; an arm's last row counts.

    In a file with a column ``student``, rows of other students are left out. Raises UserError, also
    if the file states nothing of any of the ``arms``, if these are given.
    """
    table = _read_accuracies(path)
    if "arm" not in table:
        raise UserError(f"{path} has no column 'arm'; is it of a grid? `rkkd table` compares those")
    if "student" in table:
        table = table[table["student"].astype(str).str.lower() == student.lower()]
    stated = table.dropna(subset=["arm", "acc"])
    published = {
        str(arm): float(acc) for arm, acc in zip(stated["arm"], stated["acc"], strict=True)
    }
    if arms is not None and published.keys().isdisjoint(arms):
        known = f"its arms are {', '.join(published)}" if published else "it states none"
        raise UserError(
            f"{path} has no accuracy of student {student} in the arms {', '.join(arms)}; {known}"
        )
    return published


def has_accuracies(path: Path) -> bool:
    """Whether the file has a column of accuracies; one of curves may have none."""
    return bool({*ACCURACY_COLUMNS} & {*read_published_csv(path)})


def read_published_csv(path: Path) -> pd.DataFrame:
    """Return the table in a CSV file, with the names of its columns in lower case.

    Values are separated by commas, tabs, or semicolons, beside which numbers may have decimal
    commas. Raises UserError for a file that cannot be read as such.
    """
    try:
        header, _, rows = decode_text(read_file(path)).partition("\n")
        separator = max(SEPARATORS, key=header.count)
        header = re.sub(f" *{separator} *", separator, header.strip(" ")).lower()
        _check_widths(path, header, rows, separator)
        decimal = "," if separator != "," and DECIMAL_COMMA.search(rows) else "."
        text = {"arm": str, "student": str, "source": str}
        table = pd.read_csv(
            io.StringIO(f"{header}\n{rows}"), sep=separator, decimal=decimal,
            skipinitialspace=True, index_col=False, dtype=text,
        )  # fmt: skip
    except (OSError, ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"published values {path} cannot be read as CSV: {reason}") from None
    if "arm" in table:
        table["arm"] = table["arm"].str.strip()
    return table


def _check_widths(path: Path, header: str, rows: str, separator: str) -> None:
    """Raise UserError for a row with more values than columns, and for two columns of a name."""
    names = next(csv.reader([header], delimiter=separator), [])
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise UserError(f"published values {path} have two columns {twice!r}")
    for number, row in enumerate(csv.reader(io.StringIO(rows), delimiter=separator), start=2):
        if any(row[len(names) :]):
            raise UserError(
                f"published values {path}, row {number}: {len(row)} values for {len(names)} "
                "columns; write decimal points, or separate the values with semicolons"
            )


def _read_accuracies(path: Path) -> pd.DataFrame:
    """Return the file's table with the accuracies in a column ``acc``. Raises UserError."""
    table = read_published_csv(path)
    accuracy = next((name for name in ACCURACY_COLUMNS if name in table.columns), None)
    if accuracy is None:
        raise UserError(f"{path} has no column of accuracies; call it {ACCURACY_COLUMNS[0]}")
    values = table[accuracy]
    if not pd.api.types.is_numeric_dtype(values):
        raise UserError(f"{path}: the column {accuracy} must hold numbers, in percent")
    if not values.dropna().between(0, 100).all() or 0 < values.max() <= 1:
        raise UserError(
            f"{path}: the column {accuracy} must hold percent, from 0 to 100; it has values from "
            f"{values.min():g} to {values.max():g}"
        )
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
