"""Published values: accuracies of a grid's cells and of arms, curves, and files that hold none."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_rows import ALPHA, TEMPERATURE, grid_rows, metric_row
from report_runs import compared

from rkkd_cli.analysis.grid_tables import grid_tables
from rkkd_cli.analysis.published import Published, PublishedAccuracy, read_published
from rkkd_cli.analysis.published_csv import has_curves
from rkkd_cli.analysis.published_curves import read_published_curves
from rkkd_cli.analysis.summary import MeanStd, mean_std
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment, load_grid, published_path
from rkkd_cli.errors import UserError
from rkkd_cli.report.grid_text import lay_out, long_csv
from rkkd_cli.report.run_text import published_note

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


def of(path: Path, *words: str, select: str = "last") -> Mapping[str, tuple[float, str]]:
    """Return what a file states of the arms of the default preset, changed by some words."""
    experiment = load_experiment("rank_grad", [parse_override(word) for word in words])
    stated = read_published(path, experiment, select).arms
    return {arm: (accuracy.acc, accuracy.select) for arm, accuracy in stated.items()}


def of_grid(path: Path) -> Published:
    """Return what a file states of a grid of two temperatures, two weights and a baseline."""
    axes = {ALPHA: "0.1,0.9", TEMPERATURE: "10,1"}
    words = [Override("student.model", "cnn2"), Override("teacher.model", "ResNet18")]
    experiment = load_grid("rank_grad", words, axes, CellSelection())
    return read_published(path, experiment)


def test_a_row_is_of_every_arm_that_has_its_values(written: Written) -> None:
    path = written(
        "student,method,Rank.Grad,steepness,test_acc\n"
        "digits_student,kd,false,,70\nDIGITS_STUDENT,dkd,,,71\n,dkd,true,7,72\nother,kd,,,1\n"
    )
    assert of(path) == {"kd": (70, "")}
    assert of(path, "method.name=dkd") == {"dkd": (71, ""), "dkd_rank": (71, "")}
    changed = ("method.name=dkd", "rank.steepness=7.0")
    assert of(path, *changed) == {"dkd": (71, ""), "dkd_rank": (72, "")}


def test_settings_have_their_defaults_and_lists_are_read_as_typed(written: Written) -> None:
    path = written(
        'method.simkd.projectors,factor,milestones,test_acc\nlast,2,,60\nall,,"[0.5, 0.75]",61\n'
    )
    assert of(path, "method.name=simkd") == dict.fromkeys(("simkd", "simkd_rank"), (60, ""))
    changed = ("method.name=simkd", "method.simkd.projectors=all", "training.milestones=0.5,0.75")
    assert of(path, *changed) == dict.fromkeys(("simkd", "simkd_rank"), (61, ""))


def test_an_optional_key_can_be_none(written: Written) -> None:
    path = written("method,kl_weight,test_acc\nrkd,none,60\nrkd,1,61\n")
    assert of(path, "method.name=rkd") == dict.fromkeys(("rkd", "rkd_rank"), (60, ""))
    both = ("method.name=rkd", "method.kl_weight=1.0")
    assert of(path, *both) == dict.fromkeys(("rkd", "rkd_rank"), (61, ""))


def test_rows_of_models_alone_are_of_the_student_without_distillation(written: Written) -> None:
    path = written(
        "student,arm,test_acc\n"
        '"Digits_teacher (teacher, no distillation)",,90\n'
        '"digits_student (student, no distillation)",,60\n,kd,70.5\n'
    )
    assert of(path) == {"kd": (70.5, "")}
    assert of(path, "method.name=ce") == dict.fromkeys(("ce", "ce_rank"), (60, ""))
    teachers = read_published(path, load_experiment("rank_grad")).teachers
    assert teachers == {"digits_teacher": PublishedAccuracy(90, "")}


def test_cells_the_baseline_and_the_teacher_of_a_grid_are_found(written: Written) -> None:
    path = written(
        "student,alpha,temperature,test_acc_percent\n"
        '"resnet18 (teacher, no distillation)",,,91.5\n'
        '"cnn2 (student, no distillation)",,,61.25\n'
        "cnn2,0.1,1,10\nresnet8,0.1,1,99\ncnn2,0.9,4,98\n"
    )
    stated = of_grid(path)
    assert {arm: accuracy.acc for arm, accuracy in stated.arms.items()} == {
        "baseline": 61.25, "alpha=0.1_temperature=1": 10,
    }  # fmt: skip
    assert stated.teachers == {"ResNet18": PublishedAccuracy(91.5, "")}


def test_measured_accuracies_stand_beside_those_of_the_same_epoch(written: Written) -> None:
    metrics = pd.DataFrame([
        metric_row(arm, seed, epoch, test_acc=accuracy + seed)
        for arm in ("kd", "kd_rank", "kd_best")
        for seed in (0, 1)
        for epoch, accuracy in ((1, 50.0), (2, 60.0), (3, 55.0))
    ])  # fmt: skip
    stated = {"kd": ("", 50), "kd_rank": ("last", 50), "kd_best": ("best", 50), "none": ("", 50)}
    arms = {arm: PublishedAccuracy(acc, select) for arm, (select, acc) in stated.items()}
    beside = Published(arms, {}).beside(metrics)
    assert {arm: one.difference for arm, one in beside.items()} == {
        "kd": 5.5, "kd_rank": 5.5, "kd_best": 10.5, "none": None,
    }  # fmt: skip
    assert beside["kd_best"].measured == mean_std(pd.Series([60.0, 61.0]))
    assert Published(arms, {}, select="best").beside(metrics)["kd"].difference == 10.5


def test_of_both_epochs_the_one_counts_that_is_asked_for(written: Written) -> None:
    path = written("arm,select,test_acc\nkd,last,70\nkd,Best,71\nkd_rank,best,72\nkd_rank,,73\n")
    assert of(path) == {"kd": (70, "last"), "kd_rank": (73, "")}
    assert of(path, select="best") == {"kd": (71, "best"), "kd_rank": (72, "best")}


def test_arms_of_another_teacher_are_named_with_what_is_published_instead() -> None:
    path = published_path("alpha_temperature")
    assert read_published(path, load_experiment("alpha_temperature")).unstated == ""
    other = load_experiment("alpha_temperature", [Override("teacher.model", "wrn_16_2")])
    stated = read_published(path, other)
    assert [*stated.arms] == ["baseline"]
    assert stated.unstated.startswith("the 45 arms: ")
    assert stated.unstated.endswith(" has teacher.model resnet18, not wrn_16_2")


def test_a_table_shows_ours_of_the_published_epoch_where_it_is_another() -> None:
    frame = grid_rows({ALPHA: (0.1, 0.9), TEMPERATURE: (10.0, 1.0)}, failed=[(0.9, 10.0)])
    stated = {
        "0.1_1.0": compared(10.0, "last", MeanStd(11.5, 0.7, 2)),
        "0.1_10.0": compared(20.0, "best", MeanStd(21.5, 0.7, 2)),
        "0.9_10.0": compared(90.0, "best"),
    }
    (table,) = grid_tables(frame, KEYS, "last_acc", stated)
    assert set(table.published) == {(0.1, 1.0), (0.1, 10.0), (0.9, 10.0)}
    assert [cell.text for cell in lay_out(table).rows[0][1:]] == [
        "11.50 ± 0.71 (10.00, +1.50)", "20.50 ± 0.71 (best 21.50; 20.00, +1.50)",
    ]  # fmt: skip
    header, *lines = (line.split(",") for line in long_csv([table]).splitlines())
    assert header[2:] == ["mean", "std", "n", "published", "select", "measured", "difference"]
    without_spread = {tuple(line[:2]): [line[2], *line[4:]] for line in lines}
    assert without_spread == {
        ("0.1", "1.0"): ["11.5", "2", "10.0", "last", "11.5", "1.5"],
        ("0.1", "10.0"): ["20.5", "2", "20.0", "best", "21.5", "1.5"],
        ("0.9", "1.0"): ["91.5", "2", "", "", "", ""],
    }


@pytest.mark.parametrize(
    ("selects", "sentences"),
    [
        (["best"], ["chosen on the test images and flatters both"]),
        (["last", "", "last"], ["Last: ", "Not stated: the source does not say at which epoch"]),
    ],
)
def test_what_stands_beside_is_said_once(selects: list[str], sentences: list[str]) -> None:
    note = published_note(compared(50.0, select) for select in selects)
    assert note.count(": ") == len(sentences)
    for sentence in sentences:
        assert sentence in note


@pytest.mark.parametrize(
    "text",
    [
        "arm,test_acc\nkd,70.5\nkd_rank,71\n",
        "arm;test_acc\nkd;70,5\nkd_rank;71\n",
        "arm;test_acc\nkd;70.5\nkd_rank;71\n",
        "arm;test_acc;\nkd;70,5;\nkd_rank;71;\n",
        "arm\ttest_acc\nkd\t70,5\nkd_rank\t71\n",
        "Arm , Test_Acc \n kd , 70.5 \nkd_rank,71",
        "\ufeffarm;test_acc\r\nkd;70,5\r\nkd_rank;71\r\n",
        "arm;test_acc;source\nkd;70,5;a, b\nkd_rank;71;\n",
        "grad;test_acc;alpha\nFalse;70,5;0,9\nTrue;71;0,9\n",
    ],
)
def test_tables_of_other_programs_are_read_alike(text: str, written: Written) -> None:
    assert of(written(text)) == {"kd": (70.5, ""), "kd_rank": (71, "")}


def test_of_curves_the_last_stated_accuracy_counts(written: Written) -> None:
    path = written("arm,epoch,test_acc\nkd,1,10\nkd,2,20\nkd,3,\nkd_rank,1,11\n")
    assert of(path) == {"kd": (20, "last"), "kd_rank": (11, "last")}


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


@pytest.mark.parametrize(
    ("read", "text", "reason"),
    [
        (of, "", "cannot be read as CSV"),
        (of, "arm,loss\nkd,0.1\n", "has no column of accuracies"),
        (of, "arm,test_acc\nkd,good\n", "must hold numbers, in percent"),
        (of, "arm,test_acc\nkd,70,5\n", "row 2: 3 values for 2 columns; write decimal points"),
        (of, 'arm,test_acc\nkd,"70,5"\n', "must hold numbers, in percent"),
        (of, "arm,test_acc\nkd,0.705\nb,1\n", "percent, from 0 to 100; it has .* 0.705 to 1"),
        (of, "arm,test_acc\nkd,170\n", "percent, from 0 to 100"),
        (of, "arm,test_acc\nkd,inf\n", "percent, from 0 to 100"),
        (of, "arm,test_acc\nkd,-1\n", "percent, from 0 to 100"),
        (of, "arm,Test_Acc,test_acc\nkd,7,7\n", "two columns 'test_acc'"),
        (of, "arm,test_acc,select\nkd,7,val\n", "select is best or last, or empty .* not 'val'"),
        (of, "method.nmae,test_acc\nkd,7\n", "key 'method.nmae'; did you mean 'method.name'"),
        (of, "method,beta,test_acc\nkd,1,7\n", "'beta' may be method.dkd.beta or method.dist.beta"),
        (of, "test_acc\n70\n", "no accuracy of kd, kd_rank: no row says of what it is"),
        (of, "arm,test_acc\nKD,70\n", "the row nearest to kd has arm KD, not kd"),
        (of, "arm,test_acc\nkd,\n", "no row says of what it is"),
        (
            of,
            "student,arm,test_acc\nbig,at,70\nbig,kd,70\n",
            "the row nearest to kd has student.model big, not digits_student",
        ),
        (of, "student,test_acc\ndigits_student,70\n", "has method.name ce, not kd"),
        (of_grid, "alpha,temperature,test_acc\n0.1,5,70\n", "method.temperature 5, not 10"),
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
