"""Runs with several teachers, as somebody types them: the preset, its records, and mistakes."""

import json
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import Program, has_rows, refused, signalled, succeeded
from written import manifest_of, numbers_of

from rkkd_cli.config.teachers import target_columns
from rkkd_cli.models import build_model
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.page.facts import setting_of
from rkkd_cli.report.page.panels import panels_of
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.picture import CurvePicture

NAMES = ("digits_teacher", "cnn2")
SMALL = (
    "several_teachers", "seeds=[0]", "training.epochs=3", "dataset.limit_train=200",
    "dataset.limit_test=100", *(f"teachers.{name}.training.epochs=2" for name in NAMES),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    folder = tmp_path_factory.mktemp("several")
    words = ("run", *SMALL, "--name", "several", "--quiet")
    succeeded(warm_rkkd(*words, cwd=folder, figures=True))
    return folder / "results" / "several"


def test_rows_manifest_and_figures_are_of_each_teacher(run: Path, warm_rkkd: Program) -> None:
    rows = pd.read_csv(run / "metrics.csv")
    terms = target_columns(NAMES)
    assert {*terms, *(f"test_{term}" for term in terms)} <= {*rows.columns}
    learnt = rows[rows["arm"] == "cnn2"]
    assert (learnt["kl"] == learnt["kl_cnn2"]).all()
    teachers = manifest_of(run)["teachers"]
    assert [facts["name"] for facts in teachers] == [*NAMES]
    assert all(facts["sha256"] and facts["test_acc"] for facts in teachers)
    assert len([*(run / "teachers").glob("*/weights.pt")]) == 2
    assert (run / "figures" / "teachers.png").is_file()
    shown = succeeded(warm_rkkd("show", "several", cwd=run.parents[1])).stdout
    assert "0.1·ce + 0.9·kl, from 0.7·digits_teacher + 0.3·cnn2" in shown
    assert "teacher cnn2 (trained): " in shown
    listed = succeeded(warm_rkkd("teacher", "ls", "--json", cwd=run.parents[1])).stdout
    assert {*NAMES} <= {facts["model"] for facts in json.loads(listed)["teachers"]}


def test_arms_that_learn_from_different_teachers_are_compared_by_accuracy_only(
    run: Path, warm_rkkd: Program
) -> None:
    words = ("compare", "several", "--json", "--metric", "test_kl", "--metric", "test_kl_cnn2")
    compared = json.loads(succeeded(warm_rkkd(*words, cwd=run.parents[1])).stdout)
    text = json.dumps(compared, ensure_ascii=False)
    assert "each arm records it to what it learns from (digits_teacher and cnn2)" in text


def test_the_report_says_how_each_was_trained_and_draws_what_is_said_to_each(run: Path) -> None:
    part = PageRun.read(RunDirectory(run), None)
    facts = {fact.name: fact.text for fact in setting_of(part)}
    assert "2 epochs" in facts["training of cnn2"]
    assert "training of digits_teacher" in facts
    assert facts["method"].endswith("teacher = the mean of probabilities")
    titles = [panel.title for panel in panels_of(CurvePicture.of([part]))]
    assert {"Test KL to cnn2", "Test ranking loss to the mean of logits"} <= {*titles}


def test_after_a_kill_it_goes_on_as_if_nothing_had_happened(
    run: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    killed = tmp_path / "results" / "several"
    words = ("run", *SMALL, "--name", "several", "--quiet", "--checkpoint-minutes", "0")
    signalled(warm_rkkd, killed, has_rows(killed, 7), *words, number=signal.SIGKILL)
    succeeded(warm_rkkd("resume", "several", "--quiet", cwd=tmp_path))
    assert numbers_of(killed) == numbers_of(run)


def test_a_dry_run_lists_the_teachers_and_what_arms_learn_from(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    said = succeeded(warm_rkkd("run", *SMALL, "--dry-run", cwd=tmp_path)).stdout
    lines = [line for line in said.splitlines() if line.startswith("teacher ")]
    assert [line.split()[1].rstrip(",") for line in lines] == [*NAMES]
    assert "0.1·ce + 0.9·kl, from the mean of logits" in said
    assert "in the forward pass of the teachers" in said
    words = ("teachers.cnn2.image_size=16", "--dry-run", "--json")
    (stream,) = json.loads(succeeded(warm_rkkd("run", *SMALL, *words, cwd=tmp_path)).stdout)[
        "streams"
    ]
    sizes = {name: facts["image_size"] for name, facts in stream["teachers"].items()}
    assert sizes == {"digits_teacher": [8, 8], "cnn2": [16, 16]}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--teacher", "cnn2"), ("set teachers.digits_teacher.model",)),
        (("--teacher-weights", "x.pt"), ("set teachers.digits_teacher.weights",)),
        (("teachers.cnn.seed=1",), ("unknown teacher 'cnn'", "did you mean 'cnn2'")),
        (("arms.cnn2.method.teacher=cnn3",), ("arm 'cnn2'", "did you mean 'cnn2'")),
        (("arms.shares.method.teacher={cnn2=-1}",), ("weight of cnn2", "from 0 on; got -1")),
        (("arms.shares.method.teacher={cnn2=0}",), ("sum to 0",)),
        (
            ("teachers.cnn2.weights=seven.pt", "teachers.cnn2.training=none"),
            ("teachers.cnn2: ", "7 classes", "has 10", "give a section teachers.cnn2.training"),
        ),
        (("teachers.cnn2.training=none",), ("give teachers.cnn2.weights=FILE",)),
        (("teachers.cnn2.weights=x.pt",), ("teachers.cnn2: ", "x.pt")),
        (("teachers.cnn2.mean=0.1,0.2",), ("teachers.cnn2.mean has 2 values",)),
        (("teachers.cnn2.options.width=3",), ("teachers.cnn2: ",)),
        (
            ("teachers.cnn2.training.optimizer=adam", "teachers.cnn2.training.momentum=0.5"),
            ("teachers.cnn2.training.momentum has no effect",),
        ),
        (("--method", "rkd"), ("method rkd reads features", "digits_teacher, cnn2")),
    ],
)
def test_mistakes_are_answered_in_one_sentence(
    words: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path, warm_rkkd: Program
) -> None:
    torch.save(build_model("cnn2", 7, 1, (8, 8)).state_dict(), tmp_path / "seven.pt")
    refused(warm_rkkd("run", *SMALL, *words, cwd=tmp_path), *parts)
    assert not (tmp_path / "results").exists()


def test_the_model_in_a_typed_checkpoint_is_recognised(tmp_path: Path, warm_rkkd: Program) -> None:
    torch.save(build_model("resnet8", 10, 1, (8, 8)).state_dict(), tmp_path / "file.pt")
    words = ("run", *SMALL, "teachers.cnn2.checkpoint=file.pt", "--dry-run")
    assert "cnn2: resnet8, " in succeeded(warm_rkkd(*words, cwd=tmp_path)).stdout


def test_teachers_are_trained_ahead_of_time(tmp_path: Path, warm_rkkd: Program) -> None:
    cache = {"RKKD_CACHE": str(tmp_path / "cache")}
    words = [word for word in SMALL if not word.startswith(("seeds", "training"))]
    succeeded(warm_rkkd("teacher", "train", *words, cwd=tmp_path, env=cache))
    assert len([*tmp_path.glob("cache/teachers/*/weights.pt")]) == 2
