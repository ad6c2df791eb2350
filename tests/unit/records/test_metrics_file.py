"""``metrics.csv``: its columns, its numbers to the last digit, and what is no such file."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.config.experiment import ARM_NAME
from rkkd_cli.errors import UserError
from rkkd_cli.records.metrics import append_lines, columns, csv_lines, header_line, read_metrics

HEADER = (
    "arm,seed,epoch,lr,ce,kl,rank,kendall_tau,agreement,train_acc,test_acc,test_top5,test_ce,"
    "test_kl,test_rank,test_kendall_tau,epoch_seconds,images_per_second"
)
DIAGNOSED = HEADER.replace(
    ",epoch_seconds",
    ",grad_norm_kl,grad_norm_rank,grad_cosine,grad_low_share_kl,grad_low_share_rank"
    ",grad_low_share_teacher,grad_live_pairs,epoch_seconds",
)
WITH_VALIDATION = f"{DIAGNOSED},val_acc,val_top5,val_ce,val_kl,val_rank,val_kendall_tau"
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def row(arm: str = "kd", seed: int = 0, epoch: int = 1, value: float = 0.5) -> dict[str, Any]:
    return dict.fromkeys(columns(False), value) | {"arm": arm, "seed": seed, "epoch": epoch}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "metrics.csv"
    lines = header_line(columns(False)) + csv_lines(columns(False), rows)
    path.write_text(lines, encoding="utf-8", newline="\n")
    return path


@pytest.mark.parametrize(("validation", "line"), [(False, DIAGNOSED), (True, WITH_VALIDATION)])
def test_the_header_names_the_columns_in_their_order(
    validation: bool, line: str, tmp_path: Path
) -> None:
    assert header_line(columns(validation)) == f"{line}\n"


def test_rows_are_on_the_disk_after_each_call_in_the_order_of_the_header(tmp_path: Path) -> None:
    path = written(tmp_path)
    first = row(value=0.25)
    shuffled = [dict(reversed(first.items())), row("kd_rank")]
    append_lines(path, csv_lines(columns(False), shuffled))
    lines = path.read_text().splitlines()
    assert lines[1] == ",".join(str(first[name]) for name in DIAGNOSED.split(","))
    append_lines(path, csv_lines(columns(False), [row(epoch=2)]))
    assert path.read_text().splitlines()[:3] == lines
    assert len(path.read_text().splitlines()) == 4


def test_own_terms_and_diagnostics_may_be_empty_and_come_before_the_validation(
    tmp_path: Path,
) -> None:
    header = columns(True, ["method.name"], ["tckd", "nckd"])
    assert ",".join(header).endswith(
        ",grad_live_pairs,tckd,nckd,epoch_seconds,images_per_second,"
        "val_acc,val_top5,val_ce,val_kl,val_rank,val_kendall_tau"
    )
    some = row() | {"tckd": 1.5, "nckd": "", "grad_cosine": ""}
    path = tmp_path / "metrics.csv"
    path.write_text(header_line(header) + csv_lines(header, [some]), encoding="utf-8")
    frame = read_metrics(path)
    assert frame["tckd"].tolist() == [1.5]
    assert frame[["nckd", "grad_cosine"]].isna().all(axis=None)


def test_files_of_earlier_versions_may_lack_the_newest_diagnostic(tmp_path: Path) -> None:
    header = tuple(name for name in columns(False) if name != "grad_live_pairs")
    path = tmp_path / "metrics.csv"
    path.write_text(header_line(header) + csv_lines(header, [row()]), encoding="utf-8")
    assert list(read_metrics(path).columns) == list(header)


def test_files_of_earlier_versions_have_no_diagnostics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(
        header_line(tuple(HEADER.split(","))) + csv_lines(tuple(HEADER.split(",")), [row()])
    )
    assert read_metrics(path)["kl"].tolist() == [0.5]


@given(st.lists(FLOATS, min_size=1, max_size=20))
@settings(max_examples=100)
def test_floats_are_written_with_all_their_digits(values: list[float]) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), *(row(epoch=n, value=value) for n, value in enumerate(values)))
        with path.open(newline="", encoding="utf-8") as file:
            assert [float(read["kl"]) for read in csv.DictReader(file)] == values


@given(st.lists(FLOATS, min_size=1, max_size=20))
@settings(max_examples=100)
def test_floats_come_back_exactly(values: list[float]) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), *(row(epoch=n, value=value) for n, value in enumerate(values)))
        assert read_metrics(path)["kl"].tolist() == values


@pytest.mark.parametrize(
    "arm", ["kd", "1", "1.0", "007", "1e5", "true", "NA", "nan", "null", "None"]
)
def test_every_arm_name_comes_back_as_it_is(arm: str, tmp_path: Path) -> None:
    assert ARM_NAME.fullmatch(arm)
    assert read_metrics(written(tmp_path, row(arm)))["arm"].tolist() == [arm]


def test_seeds_and_epochs_come_back_as_whole_numbers(tmp_path: Path) -> None:
    frame = read_metrics(written(tmp_path, row(seed=3, epoch=7)))
    assert (frame["seed"].dtype.kind, frame["epoch"].dtype.kind) == ("i", "i")
    assert (frame["seed"][0], frame["epoch"][0]) == (3, 7)


def test_a_run_without_an_epoch_yet_has_no_rows(tmp_path: Path) -> None:
    assert read_metrics(written(tmp_path)).empty


@pytest.mark.parametrize("column", HEADER.split(","))
def test_a_file_that_lacks_a_column_is_refused_and_the_column_named(
    column: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.csv"
    names = [name for name in DIAGNOSED.split(",") if name != column]
    path.write_text(",".join(names) + "\n")
    with pytest.raises(UserError, match=rf"metrics\.csv lacks the column '{column}'"):
        read_metrics(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"a,b\n1,2\n1,2,3,4\n"], ids=repr)
def test_a_file_that_is_no_csv_is_refused_and_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv (cannot be read as CSV|lacks the column)"):
        read_metrics(path)


def test_a_missing_file_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.csv is missing"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(UserError, match=r"metrics\.csv cannot be read"):
        read_metrics(tmp_path / "metrics.csv")
