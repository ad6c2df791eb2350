"""Beside a run: early ends, outputs of the teacher that are kept, logging, a profile."""

import json
from pathlib import Path
from shutil import rmtree

import pandas as pd
import pytest
from running import TWELVE, Program, has_rows, quick, refused, signalled, succeeded
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from written import numbers_of

HELD_OUT = ("training.epochs=4", "dataset.val_share=0.2")
EARLY = quick(*HELD_OUT, "arms={short={training={patience=1, min_delta=200.0}}, whole={}}")


def test_an_early_end_is_a_normal_end_and_is_told(warm_rkkd: Program, tmp_path: Path) -> None:
    words = ("run", "training.monitor=val_kl", *EARLY, "--name", "early")
    ran = succeeded(warm_rkkd(*words, cwd=tmp_path))
    assert "arm short, seed 0 ended early after epoch 2: val_kl was best at epoch" in ran.stderr
    run = tmp_path / "results/early"
    rows = pd.read_csv(run / "metrics.csv")
    assert rows.groupby("arm")["epoch"].max().to_dict() == {"short": 2, "whole": 4}
    shown = warm_rkkd("show", cwd=tmp_path).stdout
    assert "finished" in shown
    assert "ended early: short, seed 0 after epoch 2 (best val_kl at epoch" in shown
    assert "Last epoch of each arm and seed (not the same one)" in shown
    assert "Each seed's epoch with the best val_kl; no test image chose it:" in shown
    told = json.loads(warm_rkkd("show", "--json", cwd=tmp_path).stdout)
    assert [one["epochs"] for one in told["summary"]] == [{"0": 2}, {"0": 4}]
    assert set(told["selected"]) == {"val_kl"}
    imported = warm_rkkd(
        "teacher", "import", "results/early/best/whole-seed0.safetensors", "--dataset", "digits",
        cwd=tmp_path,
    )  # fmt: skip
    assert "digits_student" in imported.stdout, imported.stderr


def test_a_grid_whose_cells_end_early_is_done(warm_rkkd: Program, tmp_path: Path) -> None:
    words = ("--vary", "method.temperature=1,4", "--patience", "1", "--min-delta", "200")
    grid = ("grid", *words, *quick(*HELD_OUT), "--name", "g")
    ran = succeeded(warm_rkkd(*grid, cwd=tmp_path))
    cells = pd.read_csv(tmp_path / "results/g/grid.csv")
    assert set(cells["status"]) == {"done"}
    assert set(cells["epoch"]) == {2}
    assert "3 cells ended early" in ran.stdout
    assert "nothing to resume" in succeeded(warm_rkkd(*grid, cwd=tmp_path)).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--patience", "2"], "hold some out with dataset.val_share"),
        (["--monitor", "test_acc", "--val-share", "0.1"], "selecting on the test images flatters"),
        (["--monitor", "val_acu", "--val-share", "0.1"], "did you mean 'val_acc'"),
    ],
)
def test_what_cannot_be_monitored_is_refused(
    words: list[str], sentence: str, warm_rkkd: Program, tmp_path: Path
) -> None:
    refused(warm_rkkd("run", *words, cwd=tmp_path), sentence)
    assert not (tmp_path / "results").exists()


def test_comparing_takes_each_seed_at_its_own_end_and_says_where_that_is(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    succeeded(warm_rkkd("run", *quick(*EARLY, "seeds=[0,1]"), "--name", "two", cwd=tmp_path))
    answer = succeeded(warm_rkkd("compare", "two", cwd=tmp_path))
    assert "short is at epoch 2 of 4" in answer.stdout
    assert "the last epochs differ" in answer.stdout


def test_a_repeated_run_reads_what_the_first_one_kept(warm_rkkd: Program, tmp_path: Path) -> None:
    warm_rkkd("teacher", "outputs", "--evict", "all", cwd=tmp_path)
    for name in ("first", "second"):
        words = ("run", "--cache-teacher", *quick(), "--name", name)
        ran = succeeded(warm_rkkd(*words, cwd=tmp_path))
        kept = 0 if name == "first" else 2
        assert f"the teacher's outputs: {kept} of 2 epochs are kept, 8.0 kB each" in ran.stderr
    plain = warm_rkkd("run", *quick(), "--name", "plain", cwd=tmp_path)
    assert "outputs" not in plain.stderr
    results = tmp_path / "results"
    assert numbers_of(results / "first") == numbers_of(results / "plain")
    assert numbers_of(results / "second") == numbers_of(results / "plain")
    header, line = warm_rkkd("teacher", "outputs", cwd=tmp_path).stdout.splitlines()
    key, *facts = line.split()
    assert facts == ["digits_teacher", "digits", "0", "exact", "2", "16.3", "kB"]
    wrong = warm_rkkd("teacher", "outputs", "--evict", "nothing", cwd=tmp_path)
    refused(wrong, f"the choices are all, {key}")
    gone = warm_rkkd("teacher", "outputs", "--evict", key, cwd=tmp_path)
    assert gone.stdout == "removed 16.3 kB\n"
    assert warm_rkkd("teacher", "outputs", cwd=tmp_path).stdout.split() == header.split()


def test_a_resumed_run_with_kept_outputs_has_the_same_rows(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    constant = quick("training.schedule=constant")
    succeeded(warm_rkkd("run", *constant, "--name", "a", cwd=tmp_path))
    succeeded(warm_rkkd("resume", "a", "--epochs", "4", cwd=tmp_path))
    succeeded(warm_rkkd("run", "--cache-teacher", *constant, "--name", "b", cwd=tmp_path))
    resumed = warm_rkkd("resume", "b", "--epochs", "4", cwd=tmp_path)
    assert "2 of 4 epochs are kept" in resumed.stderr
    assert numbers_of(tmp_path / "results" / "a") == numbers_of(tmp_path / "results" / "b")


def test_what_only_logits_have_is_refused_for_methods_of_features(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    for method in ("simkd", "mlkd"):
        answer = warm_rkkd("run", "--cache-teacher", "--method", method, *quick(), cwd=tmp_path)
        refused(answer, f"method {method} uses more of the teacher than its logits")
        assert not (tmp_path / "results").exists()
    for mode in ("fp8", "top:0", "top:1", "top:x", "top:", "top:2.5", "top:-4"):
        answer = warm_rkkd("run", f"cache_teacher={mode}", *quick(), cwd=tmp_path)
        refused(answer, f"cache_teacher = '{mode}': must be off, exact, fp16, or top:K")


def test_a_run_on_top_logits_says_what_its_columns_are(warm_rkkd: Program, tmp_path: Path) -> None:
    words = ("run", "cache_teacher=top:4", *quick(), "--name", "top")
    ran = succeeded(warm_rkkd(*words, cwd=tmp_path))
    assert "(28 bytes an image, and 40 for all logits)" in ran.stderr
    told = "with cache_teacher = top:4, kl in training is over 4 of 10 classes and one bin"
    assert f"warning: {told}" in ran.stderr
    assert told in succeeded(warm_rkkd("show", "top", cwd=tmp_path)).stdout
    for command in ("findings", "report"):
        succeeded(warm_rkkd(command, "top", cwd=tmp_path))
    other = warm_rkkd("resume", "top", "cache_teacher=top:5", cwd=tmp_path)
    refused(other, "it differs in cache_teacher")
    answer = warm_rkkd("run", "several_teachers", "cache_teacher=top:4", cwd=tmp_path)
    refused(answer, "keeps the top classes of one teacher, and several have different ones")


ONE_EPOCH = quick("training.epochs=1", "training.schedule=constant")


def test_what_is_logged_is_what_metrics_csv_has(warm_rkkd: Program, tmp_path: Path) -> None:
    succeeded(warm_rkkd("run", *ONE_EPOCH, "--name", "run", "--tensorboard", cwd=tmp_path))
    succeeded(warm_rkkd("resume", "run", "--epochs", "2", "--tensorboard", cwd=tmp_path))
    run = tmp_path / "results/run"
    rows = pd.read_csv(run / "metrics.csv")
    for arm, own in rows.groupby("arm"):
        found = EventAccumulator(str(run / f"tensorboard/{arm}-seed0"))
        found.Reload()
        for column in ("kl", "test_acc", "grad_norm_rank"):
            logged = {one.step: one.value for one in found.Scalars(column)}
            written = dict(zip(own["epoch"], own[column].astype("float32"), strict=True))
            assert logged == written
        assert [one.step for one in found.Scalars("final/test_acc")] == [2]
    rmtree(run / "tensorboard")
    again = warm_rkkd("resume", "run", "--tensorboard", cwd=tmp_path)  # of a run that has ended
    assert "there is nothing to resume" in again.stderr
    found = EventAccumulator(str(run / "tensorboard/kd-seed0"))
    found.Reload()
    assert [one.step for one in found.Scalars("kl")] == [1, 2]
    assert [one.step for one in found.Scalars("final/test_acc")] == [2]


def test_a_logger_that_fails_is_told_once_and_the_run_goes_on(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    succeeded(warm_rkkd("run", *ONE_EPOCH, "--name", "run", cwd=tmp_path))
    run = tmp_path / "results/run"
    (run / "tensorboard").write_text("a file where a folder should be")
    words = ("resume", "run", "--epochs", "3", "--tensorboard")
    longer = succeeded(warm_rkkd(*words, cwd=tmp_path))
    assert longer.stderr.count("--tensorboard is given up") == 1
    assert pd.read_csv(run / "metrics.csv")["epoch"].max() == 3


WHAT = {"data", "teacher", "forward", "backward", "optimiser", "records"}


@pytest.mark.parametrize("stack", [False, True])
def test_a_profile_tells_shares_and_changes_no_number(
    stack: bool, warm_rkkd: Program, tmp_path: Path
) -> None:
    words = ("run", *quick("dataset.limit_train=400"), *(["--stack"] if stack else []), "--name")
    succeeded(warm_rkkd(*words, "plain", cwd=tmp_path))
    ran = succeeded(warm_rkkd(*words, "watched", "--profile", cwd=tmp_path))
    table = ran.stderr.partition("A step takes ")[2].partition("Evaluation: ")[0].splitlines()[2:]
    rows = [line.rsplit(maxsplit=3) for line in table if line.strip()]
    assert {what for _, what, _, _ in rows} == WHAT
    assert {who.strip() for who, *_ in rows} == (
        {"stream", "2 arms"} if stack else {"stream", "kd", "kd_rank"}
    )
    assert sum(float(share) for *_, share in rows) == pytest.approx(100, abs=1)
    trace = json.loads((tmp_path / "results/watched/trace.json").read_text(encoding="utf-8"))
    marks = {e["name"] for e in trace["traceEvents"] if e["name"].startswith("rkkd/")}
    assert {mark.rpartition("/")[2] for mark in marks} == WHAT | {"evaluation"}
    assert numbers_of(tmp_path / "results/plain") == numbers_of(tmp_path / "results/watched")
    assert not (tmp_path / "results/plain/trace.json").exists()


def test_an_interrupted_run_has_a_profile_too(warm_rkkd: Program, tmp_path: Path) -> None:
    run = tmp_path / "results/run"
    words = ("run", *TWELVE, "--name", "run", "--profile")
    ended = signalled(warm_rkkd, run, has_rows(run, 2), *words)
    assert "A step takes " in ended.stderr
    assert (run / "trace.json").is_file()
    assert ended.stderr.rstrip().endswith("`rkkd resume run` continues it")
