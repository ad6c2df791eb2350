"""Published values: accuracies of a grid's cells and of arms, curves, and files that hold none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_rows import ALPHA, TEMPERATURE, grid_rows

from rkkd_cli.analysis.grid_tables import grid_tables
from rkkd_cli.analysis.published import read_published_arms, read_published_grid
from rkkd_cli.analysis.published_curves import has_curves, read_published_curves
from rkkd_cli.config.presets import published_path
from rkkd_cli.errors import UserError
from rkkd_cli.report.grid_text import lay_out, long_csv

KEYS = (ALPHA, TEMPERATURE)
Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a text to a file."""

    def write(text: str) -> Path:
        path = tmp_path / "theirs.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_accuracies_of_cells_stand_beside_the_measured_ones(written: Written) -> None:
    path = written(
        "student,alpha,temperature,test_acc_percent\n"
        '"ResNet18 (teacher, no distillation)",,,91.5\n'
        '"cnn2 (student, no distillation)",,,61.25\n'
        "cnn2,0.1,1,10\nresnet8,0.1,1,99\n"
    )
    stated = read_published_grid(path, KEYS, "cnn2", "resnet18")
    assert (stated.teacher, stated.baseline) == (91.5, 61.25)
    frame = grid_rows({ALPHA: (0.1, 0.9), TEMPERATURE: (10.0, 1.0)}, failed=[(0.9, 10.0)])
    (table,) = grid_tables(frame, KEYS, "last_acc", stated)
    assert table.published == {(0.1, 1.0): 10.0}
    assert lay_out(table).rows[0][1].text == "11.50 ± 0.71 (10.00, +1.50)"
    header, *lines = (line.split(",") for line in long_csv([table]).splitlines())
    assert header == [*KEYS, "mean", "std", "n", "published", "difference"]
    without_spread = {tuple(line[:2]): [line[2], *line[4:]] for line in lines}
    assert without_spread == {
        ("0.1", "1.0"): ["11.5", "2", "10.0", "1.5"],
        ("0.1", "10.0"): ["20.5", "2", "", ""],
        ("0.9", "1.0"): ["91.5", "2", "", ""],
    }


def test_each_arm_has_its_accuracy_and_models_alone_are_no_arms(written: Written) -> None:
    text = 'student,arm,test_acc\n"big (teacher, no distillation)",,90\n'
    path = written(text + "small,kd,70.5\nSmall,dkd,71\nother,at,60\n")
    assert read_published_arms(path, "small") == {"kd": 70.5, "dkd": 71.0}


@pytest.mark.parametrize(
    "text",
    [
        "arm,test_acc\nkd,70.5\n01,71\n",
        "arm;test_acc\nkd;70,5\n01;71\n",
        "arm;test_acc\nkd;70.5\n01;71\n",
        "arm;test_acc;\nkd;70,5;\n01;71;\n",
        "arm\ttest_acc\nkd\t70,5\n01\t71\n",
        "Arm , Test_Acc \n kd , 70.5 \n01,71",
        "\ufeffarm;test_acc\r\nkd;70,5\r\n01;71\r\n",
        "arm;test_acc;source\nkd;70,5;a, b\n01;71;\n",
    ],
)
def test_tables_of_other_programs_are_read_alike(text: str, written: Written) -> None:
    assert read_published_arms(written(text), "small", ["kd"]) == {"kd": 70.5, "01": 71.0}


def test_of_curves_the_last_stated_accuracy_counts(written: Written) -> None:
    path = written("arm,epoch,test_acc\nkd,1,10\nkd,2,20\nkd,3,\nkd_rank,1,11\n")
    assert read_published_arms(path, "any") == {"kd": 20.0, "kd_rank": 11.0}


def test_the_presets_curves_have_a_source_and_levels_of_their_own() -> None:
    published = read_published_curves(published_path("rank_grad_mobilenet"))
    assert "Ablation of RKKD" in published.source
    for column, caveat in (("rank", "normalisation not stated"), ("kl", "not said to be × T²")):
        curves = published.curves(column)
        assert [one.arm for one in curves] == ["kd", "kd_rank"]
        assert {one.caveat for one in curves} == {caveat}
    accuracy = published.curves("test_acc")
    assert {one.caveat for one in accuracy} == {""}
    assert accuracy[0].values.index.is_monotonic_increasing
    assert published.curves("kendall_tau") == []


def test_a_column_of_our_name_has_our_definition(written: Written) -> None:
    path = written("arm,epoch,rank\nkd,2,-0.5\nkd,1,-0.25\nkd,3,\n")
    (curve,) = read_published_curves(path).curves("rank")
    assert curve.caveat == ""
    assert list(curve.values.items()) == [(1, -0.25), (2, -0.5)]
    assert read_published_curves(path).source == "theirs.csv"


CELLS = partial(read_published_grid, keys=KEYS, student="cnn2", teacher="ResNet18")
ARMS = partial(read_published_arms, student="small")


@pytest.mark.parametrize(
    ("read", "text", "reason"),
    [
        (CELLS, "", "cannot be read as CSV"),
        (CELLS, "alpha,test_acc\n0.1,5\n", "no column 'temperature'"),
        (CELLS, "alpha,temperature\n0.1,5\n", "no column of accuracies"),
        (CELLS, "alpha,temperature,test_acc\n0.1,5,high\n", "must hold numbers, in percent"),
        (ARMS, "", "cannot be read as CSV"),
        (ARMS, "alpha,test_acc\n0.1,70\n", "has no column 'arm'"),
        (ARMS, "arm,loss\nkd,0.1\n", "has no column of accuracies"),
        (ARMS, "arm,test_acc\nkd,good\n", "must hold numbers, in percent"),
        (ARMS, "arm,test_acc\nkd,70,5\n", "row 2: 3 values for 2 columns; write decimal points"),
        (ARMS, 'arm,test_acc\nkd,"70,5"\n', "must hold numbers, in percent"),
        (ARMS, "arm,test_acc\nkd,0.705\nb,1\n", "percent, from 0 to 100; it has .* 0.705 to 1"),
        (ARMS, "arm,test_acc\nkd,170\n", "percent, from 0 to 100"),
        (ARMS, "arm,test_acc\nkd,inf\n", "percent, from 0 to 100"),
        (ARMS, "arm,test_acc\nkd,-1\n", "percent, from 0 to 100"),
        (ARMS, "arm,Test_Acc,test_acc\nkd,7,7\n", "two columns 'test_acc'"),
        (
            partial(ARMS, arms=["kd", "b"]),
            "arm,test_acc\nKD,70\n",
            "no accuracy of student small in the arms kd, b; its arms are KD",
        ),
        (partial(ARMS, arms=["kd"]), "student,arm,test_acc\nbig,kd,70\n", "it states none"),
        (read_published_curves, "", "cannot be read as CSV"),
        (read_published_curves, "arm,test_acc\nkd,50\n", "no column 'epoch'"),
        (read_published_curves, "epoch,test_acc\n1,50\n", "no column 'arm'"),
        (read_published_curves, "arm,epoch,loss\nkd,1,2\n", "no column that is drawn"),
        (read_published_curves, "arm,epoch,test_acc\nkd,1,fifty\n", "must hold numbers"),
        (read_published_curves, "arm,epoch,test_acc\nkd,first,5\n", "must hold numbers"),
    ],
)
def test_a_file_without_such_values_is_refused_with_the_reason(
    read: Callable[[Path], Any], text: str, reason: str, written: Written
) -> None:
    with pytest.raises(UserError, match=reason):
        read(written(text))


def test_a_table_of_accuracies_is_told_from_curves(written: Written) -> None:
    assert not has_curves(written("arm,test_acc\nkd,50\n"))
    assert has_curves(published_path("rank_grad_mobilenet"))


def test_a_preset_leads_to_its_own_file_and_anything_else_is_a_path() -> None:
    assert published_path("kendall_plugin").name == "kendall_plugin_published.csv"
    assert published_path("mine.csv") == Path("mine.csv")
    with pytest.raises(UserError, match="preset rank_grad has no published values; `rkkd cat"):
        published_path("rank_grad")
