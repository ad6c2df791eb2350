"""``metrics.csv``: one row per arm, seed and epoch; terms raw, metrics in percent.

The columns are: arm, seed, epoch; the varied keys, empty where an arm has no value; learning rate,
the task's terms and metrics; diagnostics; the terms of single methods, empty in other arms; those
of several teachers, on all splits; timing; those of the validation split; the main metric of moving
averages of weights, empty in arms without.
"""

import csv
import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkkd_cli.config.experiment import ARM_NAME
from rkkd_cli.config.overrides import KEY as KEY_NAME
from rkkd_cli.config.tasks import CLASSIFICATION, TaskRecords, task_of
from rkkd_cli.errors import UserError
from rkkd_cli.files import add_path_to_errors, read_file

if TYPE_CHECKING:  # pandas takes longer to import than most commands take
    import pandas as pd

MAX_METRICS_BYTES = 2**30  # some four million rows
# Gradients of kl and rank by the student's logits, empty where undefined; files of old versions
# lack some.
DIAGNOSTICS = (
    "grad_norm_kl", "grad_norm_rank", "grad_cosine", "grad_low_share_kl", "grad_low_share_rank",
    "grad_low_share_teacher", "grad_live_pairs",
)  # fmt: skip
ROW_KEY = ["arm", "seed", "epoch"]
TIMING = ("epoch_seconds", "images_per_second")


def columns(
    with_validation: bool,
    varied: Sequence[str] = (),
    method_terms: Sequence[str] = (),
    teacher_terms: Sequence[str] = (),
    with_ema: bool = False,
    task: TaskRecords = CLASSIFICATION,
) -> tuple[str, ...]:
    """Return the header of a run's metrics.csv.

    Columns of the validation split are in runs that have one, those of moving averages of weights
    in runs in which an arm has some. ``teacher_terms`` are those of several teachers, such as
    ``kl_resnet56``, without their splits.
    """
    prefixes = ("", "test_", "val_") if with_validation else ("", "test_")
    of_teachers = [prefix + term for prefix in prefixes for term in teacher_terms]
    extra = (*DIAGNOSTICS, *method_terms, *of_teachers)
    return _header(task, varied, extra, with_validation, with_ema)


def _header(
    task: TaskRecords,
    varied: Sequence[str],
    extra: Sequence[str],
    with_validation: bool,
    with_ema: bool,
) -> tuple[str, ...]:
    common = ("lr", *task.training_columns, *task.split_columns("test"))
    val = task.split_columns("val") if with_validation else ()
    splits = ("test", "val") if with_validation else ("test",)
    ema = [task.ema_column(split) for split in splits if with_ema]
    return (*ROW_KEY, *varied, *common, *extra, *TIMING, *val, *ema)


def extra_columns_in(header: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of diagnostics, and of the terms of methods and teachers.

    Files of old versions have none.
    """
    start = header.index(task_of(header).split_columns("test")[-1]) + 1
    return tuple(header[start : header.index(TIMING[0])])


def teacher_terms_in(header: Sequence[str]) -> tuple[str, ...]:
    """Return the terms of several teachers, which alone have columns for held-out splits too."""
    extra = extra_columns_in(header)
    return tuple(column for column in extra if f"test_{column}" in extra)


def method_terms_in(header: Sequence[str]) -> tuple[str, ...]:
    """Return the terms of single methods."""
    others = {*DIAGNOSTICS, *teacher_terms_in(header)}
    return tuple(
        column
        for column in extra_columns_in(header)
        if column not in others and not column.startswith(("test_", "val_"))
    )


def varied_keys_in(header: Sequence[str]) -> tuple[str, ...]:
    """Return the varied keys that have a column."""
    return tuple(header[len(ROW_KEY) : header.index("lr")])


def sort_lines(lines: Iterable[str], arms: Mapping[str, int], seeds: Sequence[int]) -> str:
    """Return the lines sorted by the group of their arm, then by seed, epoch and arm.

    ``arms`` maps each arm, in order, to the index of its group. The order of the rows so does not
    depend on which arms were trained together, or when.
    """
    arm_index = {arm: index for index, arm in enumerate(arms)}
    seed_index = {str(seed): index for index, seed in enumerate(seeds)}

    def key(line: str) -> tuple[int, int, int, int]:
        arm, seed, epoch, _ = line.split(",", 3)
        return arms[arm], seed_index[seed], int(epoch), arm_index[arm]

    return "".join(sorted(lines, key=key))


def header_line(header: tuple[str, ...]) -> str:
    """Return the first line of the file."""
    return ",".join(header) + "\n"


def csv_lines(header: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as lines of the file, floats with all digits; missing values stay empty."""
    lines = io.StringIO()
    writer = csv.DictWriter(lines, header, lineterminator="\n")
    writer.writerows({column: row.get(column, "") for column in header} for row in rows)
    return lines.getvalue()


def append_lines(path: Path, lines: str) -> None:
    """Append whole lines, synced to disk; on any error the file is restored to its old length.

    Raises OSError that names the file.
    """
    with add_path_to_errors(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            file.write(lines.encode())
            if file.tell() != size + len(lines.encode()):
                file.write(lines.encode()[file.tell() - size :])  # raises why it was cut short
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise


def metrics_sha256(path: Path) -> str:
    """Return the SHA-256 of the file with ``\\n`` line ends, since git may convert them."""
    return hashlib.sha256(read_file(path, MAX_METRICS_BYTES).replace(b"\r\n", b"\n")).hexdigest()


def read_unfinished_metrics(path: Path) -> "pd.DataFrame":
    """Return the metrics so far of a run that another process is writing.

    A half-written last line is ignored. Raises UserError.
    """
    import pandas as pd

    text = _read_text(path)
    lines = text[: text.rfind("\n") + 1]
    return parse_metrics(lines, path) if lines else pd.DataFrame(columns=list(columns(False)))


def read_metrics(path: Path) -> "pd.DataFrame":
    """Return a run's metrics. Raises UserError if they are missing, damaged or not rkkd's."""
    return parse_metrics(_read_text(path), path)


def _read_text(path: Path) -> str:
    try:
        return read_file(path, MAX_METRICS_BYTES).decode()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: no run, or one that never began") from None
    except (UnicodeDecodeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as CSV: {reason}") from None


def parse_metrics(text: str, path: Path) -> "pd.DataFrame":
    """Return the metrics of a file's text. Raises UserError that names ``path``."""
    names = text.partition("\n")[0].removesuffix("\r").split(",")
    task = task_of(names)
    common = _header(task, (), (), with_validation=False, with_ema=False)
    missing = [column for column in common if column not in names]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]!r}: not a metrics.csv of rkkd")
    varied, extra = varied_keys_in(names), extra_columns_in(names)
    well_named = all(KEY_NAME.fullmatch(name) for name in (*varied, *extra))
    kinds = itertools.product((False, True), repeat=2)
    in_order = tuple(names) in [_header(task, varied, extra, val, ema) for val, ema in kinds]
    if not (well_named and in_order and len(set(names)) == len(names)):
        raise UserError(f"{path} has other columns than rkkd writes, or in another order")
    if not text.endswith("\n"):
        raise UserError(f"{path} ends in the middle of a row")
    frame = _parse_rows(text, path, varied, extra)
    strange = next((arm for arm in frame["arm"].unique() if not ARM_NAME.fullmatch(arm)), None)
    if strange is not None:
        raise UserError(f"{path} has rows of arm {strange[:64]!r}, a name that no arm can have")
    duplicates = frame[frame.duplicated(ROW_KEY)]
    if len(duplicates):
        arm, seed, epoch = duplicates.iloc[0][ROW_KEY]
        raise UserError(f"{path} has two rows for arm {arm}, seed {seed}, epoch {epoch}")
    return frame


def _parse_rows(
    text: str, path: Path, varied: Sequence[str], extra: Sequence[str]
) -> "pd.DataFrame":
    """Return the rows, with numbers in every column but the arm's and those of varied keys."""
    import pandas as pd

    try:
        widths = _widths(text)
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    uneven = next((n for n, width in enumerate(widths, 1) if width != widths[0]), None)
    if uneven is not None:
        raise UserError(f"{path}, line {uneven}: has not as many values as there are columns")
    task = task_of(text.partition("\n")[0].split(","))
    ema = map(task.ema_column, ("test", "val"))
    missing = [f"{split}_{name}" for split in ("test", "val") for name in task.may_be_missing]
    optional = (*task.split_columns("val"), *ema, *varied, *extra, *missing)
    may_be_empty = {column: [""] for column in optional}
    try:
        frame = read_exactly(text, {"arm": str}, may_be_empty)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    for column in frame.columns[1:] if len(frame) else ():
        if column not in varied:
            _check_numbers(frame[column], path)
    return frame


def read_exactly(
    text: str, dtype: Mapping[str, type], na_values: Mapping[str, list[str]]
) -> "pd.DataFrame":
    """Return a CSV text with its floats to the last bit, as pandas before 3.1 has to be told.

    Values are missing only where ``na_values`` says so. Raises the errors of ``pandas.read_csv``.
    """
    import pandas as pd

    is_exact = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
    options: dict[str, Any] = {} if is_exact else {"float_precision": "round_trip"}
    frame: pd.DataFrame = pd.read_csv(
        io.StringIO(text), dtype=dtype, keep_default_na=False, na_values=na_values, **options
    )
    return frame


def _check_numbers(values: "pd.Series[Any]", path: Path) -> None:
    """Raise UserError for the first value that is no number; seeds and epochs must be integers."""
    whole = values.name in ROW_KEY
    if values.dtype.kind in ("iu" if whole else "iuf"):
        return
    import pandas as pd

    numbers = pd.to_numeric(values.astype(str), errors="coerce")
    index = int((numbers.isna() | (numbers % 1 != 0 if whole else False)).argmax())
    kind = "a whole number" if whole else "a number"
    raise UserError(
        f"{path}, line {index + 2}: {values.name} is {values.iloc[index]!r}, not {kind}"
    )


def _widths(text: str) -> list[int]:
    """Return the number of values of each line. Raises csv.Error.

    Lines that rkkd writes have no quotes, so that counting commas is enough.
    """
    lines = text.removesuffix("\n").split("\n")
    if '"' in text or "\r" in text or max(map(len, lines)) > csv.field_size_limit():
        return [len(row) for row in csv.reader(io.StringIO(text, newline=""))]
    return [line.count(",") + 1 for line in lines]
