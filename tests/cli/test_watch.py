"""``rkkd watch``: a run that another process is training, from its first row to its end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from running import Program, has_rows, quick, refused, started, succeeded, wait_until

from rkkd_cli.records.run_directory import RunDirectory


@pytest.fixture(scope="module")
def ended(warm_rkkd: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    succeeded(warm_rkkd("run", *quick(), "--name", "live", "-q", cwd=folder))
    return folder / "results/live"


@pytest.fixture
def held(ended: Path, tmp_path: Path) -> Iterator[RunDirectory]:
    """A run that looks as one does that this process is training."""
    run = RunDirectory(tmp_path / "results/live")
    copytree(ended, run.path)
    run.acquire()
    running = {"status": "running", "process": os.getpid(), "metrics_sha256": None}
    run.write_manifest(run.read_manifest().model_copy(update=running))
    yield run
    run.release()


@pytest.mark.slow
def test_it_follows_a_run_to_its_end(tmp_path: Path) -> None:
    train = ("run", *quick("training.epochs=12"), "--name", "live", "--quiet")
    with started(*train, cwd=tmp_path) as trains:
        wait_until(has_rows(tmp_path / "results/live", 1))
        trains.send_signal(signal.SIGSTOP)  # until the watching has begun
        with started("watch", "live", "--every", "0.1", cwd=tmp_path) as looks:
            assert looks.stdout is not None
            first = looks.stdout.readline()
            trains.send_signal(signal.SIGCONT)
            frames = looks.stdout.read().split("results/live: ")
        assert trains.wait(timeout=60) == 0  # whoever looks disturbs nothing
    assert looks.returncode == 0
    assert first.startswith(f"results/live: running (process {trains.pid})")
    assert len(frames) > 1
    assert frames[-1].startswith("finished")
    assert "24 of 24 epochs" in frames[-1]
    assert "kd_rank      1  12/12" in frames[-1]
    assert "▁" in frames[-1]
    assert "█" in frames[-1]


def test_once_shows_one_frame_and_a_dead_run_is_told(
    held: RunDirectory, warm_rkkd: Program, tmp_path: Path
) -> None:
    with held.metrics.open("ab") as file:
        file.write(b"kd,0,39,0.0")  # what a reader may see of a row that is being written
    content = held.metrics.read_bytes()
    once = succeeded(warm_rkkd("watch", "--once", cwd=tmp_path))
    assert once.stdout.count("results/live: running") == 1
    assert "4 of 4 epochs" in once.stdout
    held.release()
    dead = warm_rkkd("watch", "live", cwd=tmp_path)
    assert dead.returncode == 1
    assert "results/live: dead" in dead.stdout
    assert "its process has gone; `rkkd resume live` continues it" in dead.stdout
    assert held.metrics.read_bytes() == content


def test_a_header_that_is_half_there_is_no_damage(
    held: RunDirectory, warm_rkkd: Program, tmp_path: Path
) -> None:
    held.metrics.write_bytes(b"arm,se")
    once = warm_rkkd("watch", "--once", cwd=tmp_path)
    assert "no epoch has been finished yet" in once.stdout
    held.metrics.write_bytes(b"arm,seed\nkd,0\n")
    refused(warm_rkkd("watch", "--once", cwd=tmp_path), "lacks the column")


@pytest.mark.slow
def test_ctrl_c_leaves_it(held: RunDirectory, tmp_path: Path) -> None:
    with started("watch", cwd=tmp_path) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert "results/live: running" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60) == 130
        assert watching.stderr.read() == ""


def test_nothing_to_watch_is_one_sentence(warm_rkkd: Program, tmp_path: Path) -> None:
    refused(warm_rkkd("watch", "nowhere", cwd=tmp_path), "no run 'nowhere'")
