"""Kill runs at random moments, resume them, and compare with a run that nobody disturbed.

    python benchmarks/kill_and_resume.py --kills 200
    python benchmarks/kill_and_resume.py --kills 200 --signal term

Each attempt is a process of its own that runs ``rkkd run --resume auto`` on a few digits, the
teacher's training included. It is ended by a real signal: at a random time, or at a chosen moment
of its writing (before or after a file is synced or renamed). Once a run has come to its end, its
metrics.csv without the timing columns, byte for byte, and all weights, optimiser states and
generators of its last checkpoints must equal those of the undisturbed run. Needs Linux
(fork, /proc).
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  # imported before the fork: attempts start at once
import torch

import rkkd_cli.api.execute
import rkkd_cli.losses.kernels.numba_pairs  # noqa: F401
from rkkd_cli.cli.main import main as rkkd
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.train.checkpoint import CheckpointStore

EXPERIMENT = (
    "seeds=[0,1]",
    "training.epochs=4",
    "teacher.training.epochs=2",
    "dataset.limit_train=300",
    "dataset.limit_test=100",
    "dataset.val_share=0.2",
    "arms.adamw={rank={grad=true},training={optimizer='adamw',lr=0.01}}",
)
TIMING = (b"epoch_seconds", b"images_per_second")
LONGEST_SECONDS = 1.5
WRITES = [
    f"{when} {what} {file}"
    for when in ("before", "after")
    for what in ("sync", "rename")
    for file in ("metrics.csv", "checkpoint", "manifest.json")
    if (what, file) != ("rename", "metrics.csv")  # rows are appended
]
AT_ANY_TIME = "at any time"


class Plan:
    """When an attempt ends: at the ``count``-th of a kind of moment, or after some seconds."""

    def __init__(self, chance: random.Random) -> None:
        self.progress = chance.choice([AT_ANY_TIME] * len(WRITES) + WRITES)
        self.minutes = chance.choice((0.0, 0.0, 0.001, 10.0))
        file = self.progress.split()[-1]
        most = {"checkpoint": 15 if self.minutes < 0.001 else 3, "metrics.csv": 3}.get(file, 1)
        self.count = chance.randint(1, most)
        self.seconds = chance.uniform(0, LONGEST_SECONDS)

    def reached(self, progress: str) -> None:
        """End this process if the moment has come."""
        if progress == self.progress:
            self.count -= 1
            if self.count == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Look at every sync and rename of this process."""
        os.fsync = self._watched(
            "sync", os.fsync, lambda file: str(Path(f"/proc/self/fd/{file}").readlink())
        )
        os.replace = self._watched("rename", os.replace, lambda _, target: str(target))

    def _watched(
        self, what: str, function: Callable[..., Any], path_of: Callable[..., str]
    ) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            kind = _kind(path_of(*arguments))
            self.reached(f"before {what} {kind}")
            result = function(*arguments)
            self.reached(f"after {what} {kind}")
            return result

        return watched


def _kind(path: str) -> str:
    name = Path(path).name
    if ".pt" in name and "weights" not in name:
        return "checkpoint"
    return next((kind for kind in ("metrics.csv", "manifest.json") if kind in name), "other")


def attempt(
    folder: Path, name: str, minutes: float, plan: Plan | None, words: Sequence[str] = EXPERIMENT
) -> int:
    """Start ``rkkd run --resume auto`` in a process of its own; return its number."""
    child = os.fork()
    if child:
        return child
    os.chdir(folder)
    os.environ["RKKD_CACHE"] = str(folder / f"cache-{name}")
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    go_on = ["--name", name, "--resume", "auto", "--checkpoint-minutes", str(minutes)]
    sys.argv = ["rkkd", "run", *words, *go_on, "--quiet"]
    if plan:
        plan.watch()
    status = 1
    try:
        rkkd()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def wait(child: int) -> int:
    """Return the exit status of a process; that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(folder: Path, name: str, plan: Plan, words: Sequence[str] = EXPERIMENT) -> bool:
    """Make one attempt with SIGKILL; tell whether it came before the run's end."""
    at_any_time = plan.progress == AT_ANY_TIME
    child = attempt(folder, name, plan.minutes, None if at_any_time else plan, words)
    if at_any_time:
        time.sleep(plan.seconds)
        os.kill(child, signal.SIGKILL)
    status = wait(child)
    _expect(status in (0, -signal.SIGKILL), folder, name, f"exit status {status}")
    return status != 0


def terminated(folder: Path, name: str, plan: Plan, waits: list[float]) -> bool:
    """Make one attempt with SIGTERM; tell whether it came before the run's end."""
    child = attempt(folder, name, plan.minutes, None)
    while not catches_sigterm(child):  # before that the program has not begun and is simply ended
        time.sleep(0.005)
    time.sleep(plan.seconds)
    sent = time.monotonic()
    os.kill(child, signal.SIGTERM)
    status = wait(child)
    waits.append(time.monotonic() - sent)
    _expect(status in (0, 128 + signal.SIGTERM), folder, name, f"exit status {status}")
    run = folder / "results" / name
    if status and (run / "manifest.json").exists():
        told = RunDirectory(run).read_manifest().status
        _expect(told in ("interrupted", "finished"), folder, name, f"status {told}")
    return status != 0


def catches_sigterm(process: int) -> bool:
    """Tell whether a process has a handler for SIGTERM, or has ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1) or "State:\tZ" in status


def compare(folder: Path, name: str, other: str) -> None:
    """End the program unless two runs have the same rows, weights, optimisers and generators."""
    runs = [folder / "results" / one for one in (name, other)]
    rows = [without_timing(run / "metrics.csv") for run in runs]
    _expect(rows[0] == rows[1], folder, name, "other rows")
    for stream in sorted(path.name for path in (runs[0] / "checkpoints").iterdir()):
        loaded = [CheckpointStore(run / "checkpoints" / stream).load() for run in runs]
        states = [one.state["lockstep"]["arms"] for one in loaded if one]
        _expect(len(states) == 2 and equal(*states), folder, name, f"other weights in {stream}")


def without_timing(metrics: Path) -> list[list[bytes]]:
    """Return the fields of every line, byte for byte, but for those of the two timing columns."""
    lines = [line.split(b",") for line in metrics.read_bytes().split(b"\n")]
    timing = [lines[0].index(column) for column in TIMING]
    return [[field for n, field in enumerate(line) if n not in timing] for line in lines]


def equal(one: Any, other: Any) -> bool:
    """Tell whether two nested states are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _expect(true: bool, folder: Path, name: str, what: str) -> None:
    if not true:
        log = (folder / f"{name}.log").read_text(encoding="utf-8")
        raise SystemExit(f"{name}: {what}; kept in {folder}\n{log}")


def main() -> None:
    """Kill, resume, compare; print what was done."""
    import rkkd_cli.report.curves  # noqa: F401  # before the fork as well

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--signal", choices=("kill", "term"), default="kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    chance, moments, waits = random.Random(given.seed), Counter[str](), list[float]()
    folder = Path(tempfile.mkdtemp(prefix="rkkd-kills-"))
    began = time.monotonic()
    _expect(wait(attempt(folder, "undisturbed", 10.0, None)) == 0, folder, "undisturbed", "failed")
    seconds, runs, kills = time.monotonic() - began, 0, 0
    while kills < given.kills:
        name, ended = f"run-{runs}", False
        while not ended and kills < given.kills:
            plan = Plan(chance)
            if given.signal == "kill":
                ended = not killed(folder, name, plan)
                moments[plan.progress] += not ended
            else:
                ended = not terminated(folder, name, plan, waits)
            kills += not ended
        if not ended:
            _expect(wait(attempt(folder, name, 10.0, None)) == 0, folder, name, "failed")
        compare(folder, name, "undisturbed")
        runs += 1
    shutil.rmtree(folder)
    print(f"undisturbed run: {seconds:.1f} s; {kills} × SIG{given.signal.upper()} in {runs} runs")
    for progress, count in moments.most_common():
        print(f"{count:4d} {progress}")
    if waits:
        print(f"from the signal to the end: at most {max(waits):.2f} s")
    print("all rows, weights, optimiser states and generators equal those of the undisturbed run")


if __name__ == "__main__":
    main()
