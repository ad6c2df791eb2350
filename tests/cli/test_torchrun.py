"""Several ranks under the real torchrun: one run, one voice, and on after a rank is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import Ended, Program, quick, refused, wait_until
from written import manifest_of, numbers_of

SMALL = (*quick("device=cpu", "training.epochs=8"), "--checkpoint-minutes", "0")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs gloo and /proc"),
]


@contextmanager
def started(
    folder: Path, *words: str, ranks: int = 2, torchrun: tuple[str, ...] = ("--standalone",)
) -> Iterator["subprocess.Popen[str]"]:
    """Torchrun with the program on so many ranks; what is left of it is killed at the end."""
    surroundings = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "torch.distributed.run", *torchrun, f"--nproc-per-node={ranks}",
        "-m", "rkkd_cli", *words,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=folder, env=surroundings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(psutil.NoSuchProcess):
                for one in [*psutil.Process(process.pid).children(recursive=True)]:
                    one.kill()
            process.kill()


def ended(process: "subprocess.Popen[str]") -> Ended:
    out, err = process.communicate(timeout=150)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def together(folder: Path, *words: str, **how: Any) -> Ended:
    with started(folder, *words, **how) as process:
        return ended(process)


def processes_of(agent: int, rank: int) -> list[psutil.Process]:
    """The process of a rank, while there is one."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(agent).children():
            if child.environ().get("RANK") == str(rank):
                found.append(child)
    return found


def wait_for_rows(folder: Path, count: int) -> None:
    """Wait until the only run in the folder has more rows."""
    metrics = "results/*/metrics.csv"
    wait_until(lambda: any(one.read_bytes().count(b"\n") > count for one in folder.glob(metrics)))


def said(text: str) -> list[str]:
    """What the program said among what torchrun says."""
    return [line for line in text.splitlines() if line.startswith("rkkd: ")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = together(folder, "run", *SMALL, "--name", "x", "-q")
    assert (result.returncode, result.stdout, result.stderr) == (0, "results/x\n", "")
    return folder / "results" / "x"


def test_two_ranks_make_one_run_which_one_process_does_not_go_on_with(
    whole: Path, warm_rkkd: Program
) -> None:
    manifest = manifest_of(whole)
    assert (manifest["ranks"], manifest["status"]) == (2, "finished")
    assert len(numbers_of(whole)) == 1 + 2 * 8
    folder = whole.parents[1]
    before = numbers_of(whole)
    (whole / "metrics.csv").write_text("")  # so that there is something to do
    resume = "torchrun --nproc-per-node 2 -m rkkd_cli resume"
    answer = warm_rkkd("resume", "x", cwd=folder)
    refused(answer, "began on 2 ranks, and one process would", resume, alone=False)
    assert numbers_of(whole) == before  # mended from the checkpoints, before it was refused


def test_a_killed_rank_is_started_again_and_nobody_can_tell(whole: Path, tmp_path: Path) -> None:
    how = ("--standalone", "--max-restarts=3")
    with started(tmp_path, "run", *SMALL, torchrun=how) as process:
        wait_for_rows(tmp_path, 4)
        (second,) = processes_of(process.pid, 1)
        second.kill()
        result = ended(process)
    assert result.returncode == 0, result.stderr
    assert "going on after epoch " in result.stderr
    (run,) = (tmp_path / "results").iterdir()  # although it was given no name
    assert numbers_of(run) == numbers_of(whole)
    assert (len(manifest_of(run)["resumed"]), manifest_of(run)["status"]) == (1, "finished")


def test_what_is_wrong_is_said_once_and_every_rank_ends(tmp_path: Path) -> None:
    result = together(tmp_path, "run", "training.batch_size=1", ranks=2)
    assert result.returncode == 1  # that is torchrun's own
    assert said(result.stderr) == [
        "rkkd: error: training.batch_size = 1 is shared by all ranks, and there are 2; raise it, "
        "or start fewer"
    ]
    assert "exitcode: 2" in result.stderr
    assert not (tmp_path / "results").exists()


def test_the_first_rank_says_what_is_wrong_on_another_one_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    pixels = 63 if os.environ['RANK'] == '1' else 64\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))\n"
    )
    result = together(tmp_path, "run", *SMALL, "--student", "mine:net")
    assert result.returncode == 1
    (line,) = said(result.stderr)
    assert line.startswith("rkkd: error: rank 1: model mine:net fails on images of 2×1×8×8")
    assert not (tmp_path / "results").exists()


def test_a_killed_first_rank_is_missed_and_the_run_goes_on(whole: Path, tmp_path: Path) -> None:
    how = ("--standalone", "--max-restarts=3")
    with started(tmp_path, "run", *SMALL, "--name", "y", torchrun=how) as process:
        for rows in (2, 8):
            wait_for_rows(tmp_path, rows)
            (first,) = processes_of(process.pid, 0)
            first.kill()
        result = ended(process)
    assert result.returncode == 0, result.stderr
    assert numbers_of(tmp_path / "results" / "y") == numbers_of(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_keeps_a_checkpoint_and_torchrun_resume_goes_on(
    number: int, whole: Path, tmp_path: Path
) -> None:
    with started(tmp_path, "run", *SMALL, "--name", "y", "-q") as process:
        wait_for_rows(tmp_path, 4)
        process.send_signal(number)
        result = ended(process)
    assert said(result.stderr) == ["rkkd: interrupted; `rkkd resume y` continues it"]
    run = tmp_path / "results" / "y"
    assert manifest_of(run)["status"] == "interrupted"
    resumed = together(tmp_path, "resume", "y", "-q")
    assert (resumed.returncode, resumed.stdout) == (0, "results/y\n"), resumed.stderr
    assert numbers_of(run) == numbers_of(whole)


def test_without_restarts_a_lost_rank_ends_the_run_and_says_so(tmp_path: Path) -> None:
    with started(tmp_path, "run", *SMALL, "--name", "y", "-q") as process:
        wait_for_rows(tmp_path, 2)
        (second,) = processes_of(process.pid, 1)
        second.kill()
        result = ended(process)
    assert result.returncode == 1
    lost = [line for line in said(result.stderr) if "lost another rank" in line]
    assert len(lost) <= 1  # none where torchrun's SIGTERM came first
    assert manifest_of(tmp_path / "results" / "y")["status"] in ("failed", "interrupted")


def test_two_nodes_train_what_two_ranks_on_one_do_and_go_on_after_a_lost_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    how = (
        "--nnodes=2", "--max-restarts=2", "--rdzv-backend=c10d", "--local-addr=localhost",
        f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=nodes",
    )  # fmt: skip
    words = ("run", *SMALL, "--name", "y")
    with (
        started(tmp_path, *words, ranks=1, torchrun=how) as one,
        started(tmp_path, *words, ranks=1, torchrun=how) as other,
    ):
        wait_for_rows(tmp_path, 4)
        (second,) = [*processes_of(one.pid, 1), *processes_of(other.pid, 1)]
        second.kill()
        results = [ended(node) for node in (one, other)]
    assert [one.returncode for one in results] == [0, 0], results
    assert any("going on after epoch " in one.stderr for one in results)
    assert numbers_of(tmp_path / "results" / "y") == numbers_of(whole)


def test_a_grid_and_a_teacher_are_trained_on_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RKKD_CACHE", str(tmp_path / "cache"))
    words = ("rank_grad", *quick("device=cpu", "training.epochs=1"))
    taught = together(tmp_path, "teacher", "train", *words)
    assert taught.returncode == 0, taught.stderr
    (facts,) = tmp_path.glob("cache/teachers/*/teacher.json")
    assert json.loads(facts.read_text(encoding="utf-8"))["ranks"] == 2
    grid = ("grid", *words, "--vary", "method.temperature=1,4", "-q")
    result = together(tmp_path, *grid, "--name", "g")
    assert result.returncode == 0, result.stderr
    assert manifest_of(tmp_path / "results" / "g")["ranks"] == 2
    refused = together(tmp_path, *grid, "--workers", "2", "--name", "h")
    assert said(refused.stderr) == [
        "rkkd: error: under torchrun all ranks train each job together; leave --engine and "
        "--workers away, or start rkkd without torchrun"
    ]
