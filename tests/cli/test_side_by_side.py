"""The seeds of one run side by side, in several processes: rows as ever, whatever happens."""

import shutil
from pathlib import Path

import pytest
from running import Program, quick, succeeded
from written import manifest_of, numbers_of

from rkkd_cli.api.options import EngineOptions
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep.jobs import count_jobs

THREE_SEEDS = quick("seeds=[0,1,2]", "training.epochs=3", "threads=1")  # of the fixture `ended`
SIDE_BY_SIDE = ("--workers", "2")


@pytest.mark.slow
def test_side_by_side_the_seeds_have_the_same_rows(
    ended: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    succeeded(warm_rkkd("run", *THREE_SEEDS, *SIDE_BY_SIDE, "--name", "run", cwd=tmp_path))
    run = tmp_path / "results/run"
    assert numbers_of(run) == numbers_of(ended)
    assert manifest_of(run)["status"] == "finished"
    streams = {path.name for path in (run / "checkpoints").iterdir()}
    assert streams == {"seed-0-kd", "seed-1-kd", "seed-2-kd"}


@pytest.mark.slow
def test_a_killed_run_goes_on_side_by_side(
    dead: Path, ended: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(dead, tmp_path / "results/run"))
    answer = succeeded(warm_rkkd("resume", "run", *SIDE_BY_SIDE, cwd=tmp_path))
    assert "seed 1: kd, kd_rank" in answer.stderr
    assert "seed 2: kd, kd_rank" in answer.stderr
    assert numbers_of(run) == numbers_of(ended)


def test_a_run_has_no_more_workers_than_jobs() -> None:
    words = ("seeds=[0,1,2]", "arms.fast.training.epochs=1")
    jobs = count_jobs(load_experiment("rank_grad", [parse_override(word) for word in words]))
    assert jobs == 6  # kd and kd_rank share a stream, fast has its own
    assert EngineOptions(workers=8).at_most(jobs).workers == 6
    assert EngineOptions(workers=4).at_most(jobs).workers == 4
    assert EngineOptions().at_most(jobs).workers is None
