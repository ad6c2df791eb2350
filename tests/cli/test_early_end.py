"""Early stopping at the command line: a normal end, and each arm's epoch beside its numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

Program = Callable[..., CompletedProcess[str]]
QUICK = (
    "training.epochs=4",
    "teacher.training.epochs=2",
    "seeds=[0]",
    "dataset.limit_train=200",
    "dataset.limit_test=100",
    "dataset.val_share=0.2",
)
EARLY = (
    *QUICK,
    "arms={short={training={patience=1, min_delta=200.0}}, whole={}}",
)


def test_an_early_end_is_a_normal_end_and_is_told(warm_rkkd: Program, tmp_path: Path) -> None:
    ran = warm_rkkd("run", "training.monitor=val_kl", *EARLY, "--name", "early", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
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
    words = ["--vary", "method.temperature=1,4", "--patience", "1", "--min-delta", "200", *QUICK]
    grid = ["grid", *words, "--name", "g"]
    ran = warm_rkkd(*grid, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    cells = pd.read_csv(tmp_path / "results/g/grid.csv")
    assert set(cells["status"]) == {"done"}
    assert set(cells["epoch"]) == {2}
    assert "3 cells ended early" in ran.stdout
    again = warm_rkkd(*grid, cwd=tmp_path)
    assert again.returncode == 0
    assert "nothing to resume" in again.stderr


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
    answer = warm_rkkd("run", *words, cwd=tmp_path)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_comparing_takes_each_seed_at_its_own_end_and_says_where_that_is(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    seeds = [word if not word.startswith("seeds") else "seeds=[0, 1]" for word in EARLY]
    ran = warm_rkkd("run", *seeds, "--name", "two", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    answer = warm_rkkd("compare", "two", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "short is at epoch 2 of 4" in answer.stdout
    assert "the last epochs differ" in answer.stdout
