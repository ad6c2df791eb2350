"""The program with torch already imported: a process for each call, without the slow start.

One server imports everything slow and then only forks. Each call is a process of its own, with its
own arguments, folder, environment, output files and exit status. What depends on a cold start
(help, imports, signals, terminals) is tested with the fixture ``rkkd`` or with a plain subprocess.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from running import TWELVE, Ended, Program, has_rows, quick, signalled, succeeded
from written import manifest_of, numbers_of

SERVER = """
import gc, json, os, signal, sys, traceback
import torch._dynamo, rkkd_cli.losses.kernels.numba_pairs, rkkd_cli.report.curves
import numba, sklearn.datasets, rkkd_cli.api.execute, rkkd_cli.cli.runtime.dry_run
import rkkd_cli.report.page.page, rkkd_cli.analysis.findings
from rkkd_cli.cli.main import main
gc.freeze()
for line in sys.stdin:
    arguments, folder, environment, files = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(200)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # is started to ignore
        os.chdir(folder)
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in zip((1, 2), files):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["rkkd", *arguments]
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)  # taking torch apart object by object takes a second
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def warm_rkkd(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program in a forked process: ``warm_rkkd("run", "--seeds", "0", cwd=folder)``.

    Runs draw no figures, which takes most of a short run's time, but with ``figures=True``.
    """
    if sys.platform == "win32":
        pytest.skip("needs fork")
    files = [tmp_path_factory.mktemp("output") / name for name in ("stdout", "stderr")]
    surroundings = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, env=surroundings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        requests, answers = server.stdin, server.stdout

        def program(
            *arguments: str,
            cwd: Path,
            env: Mapping[str, str] | None = None,
            figures: bool = False,
        ) -> Ended:
            if arguments[:1] in (("run",), ("grid",), ("resume",)) and not figures:
                arguments = (*arguments, "--no-figures")
            request = [arguments, str(cwd), dict(env or {}), [str(path) for path in files]]
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            status = int(answers.readline())
            out, err = (path.read_text(encoding="utf-8") for path in files)
            return subprocess.CompletedProcess(list(arguments), status, out, err)

        yield program
        requests.close()


# Three streams of two arms.
THREE_SEEDS = (
    "run", "--quiet", "--name", "run", *quick("seeds=[0,1,2]", "training.epochs=3"),
)  # fmt: skip


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A run that nothing disturbed; each of its three streams has its checkpoints."""
    folder = tmp_path_factory.mktemp("ended")
    succeeded(warm_rkkd(*THREE_SEEDS, cwd=folder))
    return folder / "results" / "run"


@pytest.fixture(scope="session")
def dead(tmp_path_factory: pytest.TempPathFactory, ended: Path, warm_rkkd: Program) -> Path:
    """The same run, killed when two streams have checkpoints, the second one also later rows."""
    run = tmp_path_factory.mktemp("dead") / "results" / "run"
    signalled(warm_rkkd, run, has_rows(run, 6 + 5), *THREE_SEEDS, number=signal.SIGKILL)
    assert manifest_of(run)["status"] == "running"
    return run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> list[str]:
    """The numbers of twelve epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    succeeded(warm_rkkd("run", *TWELVE, "--quiet", "--name", "whole", cwd=folder))
    return numbers_of(folder / "results" / "whole")


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """The same run, interrupted by SIGTERM after two or three epochs."""
    run = tmp_path_factory.mktemp("interrupted") / "results" / "stopped"
    signalled(warm_rkkd, run, has_rows(run, 4), "run", *TWELVE, "-q", "--name", "stopped")
    assert 5 <= len(numbers_of(run)) < 24
    return run


@pytest.fixture
def stopped(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run for each test."""
    return Path(shutil.copytree(interrupted, tmp_path / "results" / "stopped"))
