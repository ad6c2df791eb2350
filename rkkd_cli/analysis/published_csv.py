"""Files of published values: tables in CSV, as people and other programs write them."""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from rkkd_cli.config.tasks import METRIC_NAMES, TaskRecords
from rkkd_cli.errors import UserError
from rkkd_cli.files import decode_text, read_file

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


def metric_columns(task: TaskRecords) -> dict[str, str]:
    """Return what a column of published values may be called, and the metric that it has.

    The first ones count before others: those of the task's main metric.
    """
    return {
        name: f"test_{metric}"
        for metric in task.held_out
        for name in (f"test_{metric}_percent", f"test_{metric}", f"last_{metric}",
                     METRIC_NAMES[metric].lower(), metric)
    }  # fmt: skip


def has_accuracies(path: Path, task: TaskRecords) -> bool:
    """Whether the file has a column of a metric of the task; one of curves may have none."""
    return not metric_columns(task).keys().isdisjoint(read_published_csv(path))


def has_curves(path: Path) -> bool:
    """Whether a file of published values holds curves, and not one value per arm."""
    return "epoch" in read_published_csv(path)


def read_accuracies(path: Path, task: TaskRecords) -> tuple[pd.DataFrame, str]:
    """Return the rows that state a metric of the task, in percent and in a column ``acc``.

    With them the column of metrics.csv that has this metric. Raises UserError.
    """
    table, columns = read_published_csv(path), metric_columns(task)
    accuracy = next((name for name in columns if name in table.columns), None)
    if accuracy is None:
        what = {"accuracy": "accuracies"}.get(task.main_name, task.main_name)
        raise UserError(f"{path} has no column of {what}; call it {next(iter(columns))}")
    values = table[accuracy]
    if not pd.api.types.is_numeric_dtype(values):
        raise UserError(f"{path}: the column {accuracy} must hold numbers, in percent")
    if not values.dropna().between(0, 100).all() or 0 < values.max() <= 1:
        raise UserError(
            f"{path}: the column {accuracy} must hold percent, from 0 to 100; it has values from "
            f"{values.min():g} to {values.max():g}"
        )
    return table.assign(acc=values).dropna(subset="acc"), columns[accuracy]


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
