"""Files of published values: tables in CSV, as people and other programs write them."""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from rkkd_cli.errors import UserError
from rkkd_cli.files import decode_text, read_file

ACCURACY_COLUMNS = ("test_acc_percent", "test_acc", "last_acc", "accuracy")
TEXT_COLUMNS = ("arm", "teacher", "student", "method", "select", "source")
SEPARATORS = (",", ";", "\t")
DECIMAL_COMMA = re.compile(r"\d,\d")


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
        table = pd.read_csv(
            io.StringIO(f"{header}\n{rows}"), sep=separator, decimal=decimal,
            skipinitialspace=True, index_col=False, dtype=dict.fromkeys(TEXT_COLUMNS, str),
        )  # fmt: skip
    except (OSError, ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"published values {path} cannot be read as CSV: {reason}") from None
    for column in {*TEXT_COLUMNS} & {*table}:
        table[column] = table[column].str.strip()
    return table


def has_accuracies(path: Path) -> bool:
    """Whether the file has a column of accuracies; one of curves may have none."""
    return bool({*ACCURACY_COLUMNS} & {*read_published_csv(path)})


def has_curves(path: Path) -> bool:
    """Whether a file of published values holds curves, and not one value per arm."""
    return "epoch" in read_published_csv(path)


def read_accuracies(path: Path) -> pd.DataFrame:
    """Return the rows that state an accuracy, in percent and in a column ``acc``.

    Raises UserError.
    """
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
    return table.rename(columns={accuracy: "acc"}).dropna(subset="acc")


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
