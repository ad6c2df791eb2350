"""A living run: told as running, closed to a second process, deaf to what nohup ignores."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Program, has_rows, quick, refused, wait_until
from written import manifest_of

from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import RunDirectory

ENDLESS = (
    "run", *quick("device=cpu", "training.epochs=100000", "training.schedule=constant"),
    "--name", "x",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process started as by nohup and a shell's ``&``, whose run goes on and on."""
    folder = tmp_path_factory.mktemp("living")
    program = [sys.executable, "-m", "rkkd_cli", *ENDLESS]
    command = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", *program]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_until(has_rows(folder / "results" / "x", 2))
        yield process
        process.kill()


@pytest.fixture(scope="module")
def living(process: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the process."""
    return tmp_path_factory.getbasetemp() / "living0" / "results" / "x"


def rows_now(run: Path) -> int:
    return (run / "metrics.csv").read_bytes().count(b"\n") - 1


@pytest.mark.slow
def test_signals_that_were_ignored_from_the_start_stay_ignored(living: Path) -> None:
    process = manifest_of(living)["process"]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
        os.kill(process, number)
    wait_until(has_rows(living, rows_now(living) + 10))
    assert manifest_of(living)["status"] == "running"


@pytest.mark.parametrize(
    "words",
    [
        ("resume", "x"),
        ("run", "--resume", "x"),
        (*ENDLESS, "--resume", "auto"),
        ENDLESS,
    ],
)
def test_a_second_process_is_refused_in_one_sentence_that_names_the_first(
    words: tuple[str, ...], living: Path, warm_rkkd: Program
) -> None:
    record = (living / "experiment.toml").read_bytes()
    first = manifest_of(living)["process"]
    refused(warm_rkkd(*words, cwd=living.parents[1]), f"run 'x' is in use by process {first}")
    assert (living / "experiment.toml").read_bytes() == record
    assert manifest_of(living)["resumed"] == []


def test_a_living_run_is_told_as_running(living: Path, warm_rkkd: Program) -> None:
    folder = living.parents[1]
    listed = warm_rkkd("ls", "runs", cwd=folder).stdout.splitlines()[1]
    assert listed.split()[:2] == ["x", "running"]
    shown = warm_rkkd("show", "x", cwd=folder).stdout.splitlines()[0]
    assert shown.startswith("results/x: running, started ")
    assert "resume" not in shown
    assert json.loads(warm_rkkd("show", "x", "--json", cwd=folder).stdout)["status"] == "running"


def test_looking_at_a_run_never_keeps_anybody_from_it(tmp_path: Path) -> None:
    looks, is_over = 0, threading.Event()

    def look() -> None:
        nonlocal looks
        while not is_over.is_set():
            RunDirectory(tmp_path).is_held()
            looks += 1

    onlooker = threading.Thread(target=look)
    onlooker.start()
    refusals: list[UserError] = []
    while looks < 1000:
        run = RunDirectory(tmp_path)
        try:
            run.acquire()
        except UserError as error:
            refusals.append(error)
        run.release()
    is_over.set()
    onlooker.join()
    assert refusals == []


def test_a_reader_of_the_progress_that_goes_away_ends_no_training(
    process: subprocess.Popen[str], living: Path
) -> None:
    assert process.stderr is not None
    process.stderr.close()  # as `2>&1 | head` does; the last test of the living run
    later = has_rows(living, rows_now(living) + 8)
    wait_until(lambda: later() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert manifest_of(living)["status"] == "interrupted"
