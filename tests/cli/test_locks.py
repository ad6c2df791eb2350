"""A living run: told as running, closed to a second process, deaf to what nohup ignores."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from written import manifest_of

from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import RunDirectory

Program = Callable[..., subprocess.CompletedProcess[str]]

ENDLESS = (
    "run", "dataset.limit_train=200", "dataset.limit_test=100", "teacher.training.epochs=2",
    "--device", "cpu", "--seeds", "0", "--epochs", "100000", "training.schedule=constant",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def wait_for_rows(run: Path, count: int) -> None:
    metrics, deadline = run / "metrics.csv", time.monotonic() + 60
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > count):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process started as by nohup and a shell's ``&``, whose run goes on and on."""
    folder = tmp_path_factory.mktemp("living")
    program = [sys.executable, "-m", "rkkd_cli", *ENDLESS, "--name", "x"]
    command = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", *program]
    cache = str(tmp_path_factory.getbasetemp() / "rkkd-cache")
    env = {**os.environ, "RKKD_CACHE": cache, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for_rows(folder / "results" / "x", 2)
        yield process
        process.kill()


@pytest.fixture(scope="module")
def living(process: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the process."""
    return tmp_path_factory.getbasetemp() / "living0" / "results" / "x"


def test_signals_that_were_ignored_from_the_start_stay_ignored(living: Path) -> None:
    process = manifest_of(living)["process"]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
        os.kill(process, number)
    wait_for_rows(living, (living / "metrics.csv").read_bytes().count(b"\n") + 10)
    assert manifest_of(living)["status"] == "running"


@pytest.mark.parametrize(
    "words",
    [
        ("resume", "x"),
        ("run", "--resume", "x"),
        (*ENDLESS, "--name", "x", "--resume", "auto"),
        (*ENDLESS, "--name", "x"),
    ],
)
def test_a_second_process_is_refused_in_one_sentence_that_names_the_first(
    words: tuple[str, ...], living: Path, warm_rkkd: Program
) -> None:
    record = (living / "experiment.toml").read_bytes()
    result = warm_rkkd(*words, cwd=living.parents[1])
    assert (result.returncode, result.stdout) == (2, "")
    (sentence,) = result.stderr.splitlines()
    assert (living / "experiment.toml").read_bytes() == record
    assert manifest_of(living)["resumed"] == []
    assert f"run 'x' is in use by process {manifest_of(living)['process']}" in sentence


def test_a_living_run_is_told_as_running(living: Path, warm_rkkd: Program) -> None:
    folder = living.parents[1]
    listed = warm_rkkd("ls", "runs", cwd=folder).stdout.splitlines()[1]
    assert listed.split()[:2] == ["x", "running"]
    shown = warm_rkkd("show", "x", cwd=folder).stdout.splitlines()[0]
    assert shown.startswith("results/x: running, started ")
    assert "resume" not in shown
    assert json.loads(warm_rkkd("show", "x", "--json", cwd=folder).stdout)["status"] == "running"


def test_looking_at_a_run_never_keeps_anybody_from_it(tmp_path: Path) -> None:
    end = time.monotonic() + 0.5

    def look() -> None:
        while time.monotonic() < end:
            RunDirectory(tmp_path).is_held()

    onlooker = threading.Thread(target=look)
    onlooker.start()
    refused: list[UserError] = []
    while time.monotonic() < end:
        run = RunDirectory(tmp_path)
        try:
            run.acquire()
        except UserError as error:
            refused.append(error)
        run.release()
    onlooker.join()
    assert refused == []


def test_a_reader_of_the_progress_that_goes_away_ends_no_training(
    process: subprocess.Popen[str], living: Path
) -> None:
    assert process.stderr is not None
    process.stderr.close()  # as `2>&1 | head` does; the last test of the living run
    rows = len((living / "metrics.csv").read_bytes().splitlines())
    deadline = time.monotonic() + 20
    while len((living / "metrics.csv").read_bytes().splitlines()) < rows + 8:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    assert manifest_of(living)["status"] == "interrupted"
