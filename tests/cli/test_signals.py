"""Signals: soon, with everything kept, told truly; and SIGKILL, after which the run is dead."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from running import (
    TWELVE,
    Program,
    has_checkpoint,
    has_rows,
    meanwhile,
    quick,
    signalled,
    succeeded,
    wait_until,
)
from written import manifest_of, numbers_of

from rkkd_cli.api.signals import PATIENCE_SECONDS
from rkkd_cli.records.run_directory import RunDirectory

NAMED = ("--quiet", "--name", "x")
RUN = ("run", *TWELVE, *NAMED)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where a run of the name x will be."""
    return tmp_path / "results" / "x"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_interrupts_the_run_soon_and_resume_gives_the_same_numbers(
    number: int, whole: list[str], warm_rkkd: Program, run: Path, tmp_path: Path
) -> None:
    result = signalled(warm_rkkd, run, has_rows(run, 4), *RUN, number=number)
    assert result.stdout == ""
    assert result.stderr == "rkkd: interrupted; `rkkd resume x` continues it\n"
    assert len(numbers_of(run)) < len(whole)
    manifest = manifest_of(run)
    assert (manifest["status"], manifest["process"]) == ("interrupted", None)
    assert manifest["started"] < manifest["ended"]
    listed = warm_rkkd("ls", "runs", cwd=tmp_path).stdout.splitlines()[1]
    assert listed.split()[:2] == ["x", "interrupted"]
    shown = warm_rkkd("show", "x", cwd=tmp_path).stdout.splitlines()[0]
    assert "interrupted" in shown
    assert "`rkkd resume x` continues it" in shown
    succeeded(warm_rkkd("resume", "x", "-q", cwd=tmp_path))
    assert numbers_of(run) == whole


def test_a_signal_within_an_epoch_loses_no_step(
    warm_rkkd: Program, run: Path, tmp_path: Path
) -> None:
    words = ("run", *quick("device=cpu", "training.batch_size=4"), "--quiet")
    after_each_step = ("--checkpoint-minutes", "0", "--name", "x")
    in_the_second_epoch = has_checkpoint(run, 60)  # of 50 steps, and two evaluations, an epoch
    signalled(warm_rkkd, run, in_the_second_epoch, *words, *after_each_step)
    assert len(numbers_of(run)) == 3  # of 5: the second epoch has begun
    resumed = warm_rkkd("resume", "x", cwd=tmp_path)
    assert "50 batches, going on after epoch 1 and " in resumed.stderr
    succeeded(warm_rkkd(*words, "--name", "whole", cwd=tmp_path))
    assert numbers_of(run) == numbers_of(run.with_name("whole"))


def test_a_signal_while_the_teacher_is_trained_keeps_what_it_has_learnt(
    warm_rkkd: Program, cache: Path, run: Path, tmp_path: Path
) -> None:
    def teacher_in_training() -> bool:
        return len(list(cache.glob("teachers/*/training/*.pt"))) == 2

    words = ("run", *quick("device=cpu", "teacher.training.epochs=6", "teacher.seed=5"), "--name")
    signalled(warm_rkkd, run, teacher_in_training, *words, "x")
    assert manifest_of(run)["status"] == "interrupted"
    succeeded(warm_rkkd("show", "x", cwd=tmp_path))
    resumed = succeeded(warm_rkkd("resume", "x", cwd=tmp_path))
    assert "training the teacher digits_teacher on after epoch 2" in resumed.stderr
    elsewhere = {"RKKD_CACHE": str(tmp_path / "cache")}
    succeeded(warm_rkkd(*words, "whole", cwd=tmp_path, env=elsewhere))
    whole = run.with_name("whole")
    assert numbers_of(run) == numbers_of(whole)
    assert manifest_of(run)["teachers"][0]["sha256"] == manifest_of(whole)["teachers"][0]["sha256"]


# A student whose second step never ends.
ENDLESS = """
import time
from pathlib import Path
from torch import nn
from rkkd_cli.api import signals

signals.PATIENCE_SECONDS = {patience}

class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.fc = nn.Linear(64 * in_channels, num_classes)
        self.steps = 0
    def forward(self, x):
        self.steps += self.training and len(x) == 40
        while self.steps == 2:
            Path("in the second step").touch()
            time.sleep(0.01)
        return self.fc(x.flatten(1))
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_step_without_end_is_given_up_at_a_second_signal_or_when_patience_ends(
    times: int, warm_rkkd: Program, run: Path, tmp_path: Path
) -> None:
    assert 1 < PATIENCE_SECONDS < 10  # the program's own, which is told to the user
    patience = 0.2 if times == 1 else 1e6
    (tmp_path / "mine.py").write_text(ENDLESS.format(patience=patience), encoding="utf-8")

    def interrupt() -> None:
        process = psutil.Process(manifest_of(run)["process"])
        threads = process.num_threads()
        process.send_signal(signal.SIGINT)
        if times == 2:
            wait_until(lambda: process.num_threads() > threads)  # one waits for patience to end
            process.send_signal(signal.SIGINT)

    words = ("run", *quick("device=cpu", "training.batch_size=40"), "--checkpoint-minutes", "0")
    result = meanwhile(
        interrupt, (tmp_path / "in the second step").exists, warm_rkkd,
        *words, "--student", "mine:Net", "--rank-grad", "off", *NAMED, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 130, result.stderr
    assert "interrupted" in result.stderr.splitlines()[-1]
    assert manifest_of(run)["status"] == "interrupted"
    assert has_checkpoint(run, 1)()
    assert not has_checkpoint(run, 2)()


def status_told(program: Program, run: Path) -> set[str]:
    """What `ls runs`, `show` and `show --json` tell of a run."""
    folder = run.parents[1]
    listed = program("ls", "runs", cwd=folder).stdout.splitlines()[1].split()[1]
    shown = program("show", "x", cwd=folder).stdout.splitlines()[0].split(": ")[1].split(",")[0]
    as_json = json.loads(program("show", "x", "--json", cwd=folder).stdout)["status"]
    return {listed, shown, as_json}


def test_a_killed_run_is_told_as_dead_and_its_lock_is_free(
    whole: list[str], warm_rkkd: Program, run: Path, tmp_path: Path
) -> None:
    signalled(warm_rkkd, run, has_rows(run, 4), *RUN, number=signal.SIGKILL)
    assert manifest_of(run)["status"] == "running"
    assert status_told(warm_rkkd, run) == {"dead"}
    assert "`rkkd resume x` continues it" in warm_rkkd("show", cwd=tmp_path).stdout
    copy = Path(shutil.copytree(run, tmp_path / "elsewhere" / "x"))
    (copy / ".lock").unlink()
    assert RunDirectory(copy).status(RunDirectory(copy).read_manifest()) == "dead"
    succeeded(warm_rkkd("resume", "x", cwd=tmp_path))
    assert numbers_of(run) == whole


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
@pytest.mark.slow
@pytest.mark.parametrize(("signal", "count"), [("kill", 25), ("term", 3)])
def test_a_run_that_is_stopped_at_random_moments_ends_as_if_nothing_had_happened(
    signal: str, count: int, tmp_path: Path
) -> None:
    """The script of the README's figures fails where any weight, row or generator differs."""
    script = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
    answer = subprocess.run(
        [sys.executable, str(script), "--kills", str(count), "--signal", signal],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{count} × SIG{signal.upper()} in " in answer.stdout
    if signal == "kill":
        moments = re.findall(r"^ *(\d+) (before|after|at any)", answer.stdout, re.MULTILINE)
        assert sum(int(number) for number, _ in moments) == count
        assert {"before", "after", "at any"} == {kind for number, kind in moments if int(number)}
    else:
        assert re.search(r"at most [\d.]+ s", answer.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_the_program_ends_change_nothing(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "rkkd_cli", "run", *quick("device=cpu"), "--no-figures"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        shown = iter(process.stdout)
        next(line for line in shown if "Last epoch" in line)
        for _ in range(20):
            process.send_signal(number)
            time.sleep(0.01)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    (run,) = (tmp_path / "results").iterdir()
    assert manifest_of(run)["status"] == "finished"
