"""``--tensorboard``: what a run and its continuation log; that a failing logger stops nothing."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from subprocess import CompletedProcess

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Program = Callable[..., CompletedProcess[str]]
QUICK = (
    "training.epochs=1",
    "training.schedule=constant",
    "teacher.training.epochs=2",
    "seeds=[0]",
    "dataset.limit_train=200",
    "dataset.limit_test=100",
)


def test_what_is_logged_is_what_metrics_csv_has(warm_rkkd: Program, tmp_path: Path) -> None:
    ran = warm_rkkd("run", *QUICK, "--name", "run", "--tensorboard", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    longer = warm_rkkd("resume", "run", "--epochs", "2", "--tensorboard", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    run = tmp_path / "results/run"
    rows = pd.read_csv(run / "metrics.csv")
    for arm, own in rows.groupby("arm"):
        found = EventAccumulator(str(run / f"tensorboard/{arm}-seed0"))
        found.Reload()
        for column in ("kl", "test_acc", "grad_norm_rank"):
            logged = {one.step: one.value for one in found.Scalars(column)}
            written = dict(zip(own["epoch"], own[column].astype("float32"), strict=True))
            assert logged == written
        assert [one.step for one in found.Scalars("final/test_acc")] == [1, 2]
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
    assert warm_rkkd("run", *QUICK, "--name", "run", cwd=tmp_path).returncode == 0
    run = tmp_path / "results/run"
    (run / "tensorboard").write_text("a file where a folder should be")
    longer = warm_rkkd("resume", "run", "--epochs", "3", "--tensorboard", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert longer.stderr.count("--tensorboard is given up") == 1
    assert pd.read_csv(run / "metrics.csv")["epoch"].max() == 3
