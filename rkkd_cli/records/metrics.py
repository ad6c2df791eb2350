"""``metrics.csv``: one tidy row per arm, seed and epoch; raw terms, accuracies in percent."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rkkd_cli.errors import UserError

COLUMNS = (
    "arm",
    "seed",
    "epoch",
    "lr",
    "ce",
    "kl",
    "rank",
    "kendall_tau",
    "agreement",
    "train_acc",
    "test_acc",
    "test_top5",
    "test_ce",
    "test_kl",
    "test_rank",
    "test_kendall_tau",
    "epoch_seconds",
    "images_per_second",
)
# Only in runs with a validation split (dataset.val_share > 0), after the others.
VAL_COLUMNS = ("val_acc", "val_top5", "val_ce", "val_kl", "val_rank", "val_kendall_tau")


def columns(with_validation: bool) -> tuple[str, ...]:
    """Return the header of a run's metrics.csv."""
    return COLUMNS + VAL_COLUMNS if with_validation else COLUMNS


class MetricsWriter:
    """Appends whole rows; after each call they are on the disk."""

    def __init__(self, path: Path, header: tuple[str, ...]) -> None:
        self.path, self.header = path, header
        with path.open("x", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(header)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows that have exactly the header's keys. Floats keep all their digits."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.header, lineterminator="\n")
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> pd.DataFrame:
    """Return a run's metrics. Raises UserError where they are missing or not ours."""
    try:
        numbers = {column: [""] for column in COLUMNS + VAL_COLUMNS if column != "arm"}
        frame = pd.read_csv(path, dtype={"arm": str}, keep_default_na=False, na_values=numbers)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: no run, or one that never began") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]!r}: not a metrics.csv of rkkd")
    return frame
