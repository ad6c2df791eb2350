"""The program as tests start it, how it ended, and what happens to it meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from written import manifest_of

Ended = CompletedProcess[str]
Program = Callable[..., Ended]
FolderMaker = Callable[..., Path]
Condition = Callable[[], object]

# What makes a preset of classes one of embeddings.
EMBEDDING_KEYS = ("task=embedding", "student.embedding=8", "teacher.embedding=8")
DETECTION_KEYS = (
    "teacher.model=fasterrcnn:resnet20", "student.model=fasterrcnn:resnet8",
    "dataset.name=digits_scenes",
)  # fmt: skip

# Small and fast: one seed, two epochs, 200 images. The teacher takes a second.
QUICK = (
    "training.epochs=2", "teacher.training.epochs=2", "seeds=[0]",
    "dataset.limit_train=200", "dataset.limit_test=100",
)  # fmt: skip


def quick(*overrides: str, without: str | None = None) -> tuple[str, ...]:
    """Return QUICK with other values of its keys, with further keys, and ``without`` one."""
    keys = {text.partition("=")[0]: text for text in (*QUICK, *overrides)}
    return tuple(text for key, text in keys.items() if key != without)


# Long enough to be interrupted: 24 rows, two an epoch.
TWELVE = quick("device=cpu", "training.epochs=12")


def succeeded(answer: Ended) -> Ended:
    """Return the answer of a program that has done what it was asked for."""
    assert answer.returncode == 0, answer.stderr
    return answer


def refused(answer: Ended, *parts: str, status: int = 2, alone: bool = True) -> str:
    """Return the one sentence of a program that failed, which has these parts.

    It is said ``alone``, or after what the program was doing.
    """
    assert answer.returncode == status, answer.stderr
    assert answer.stdout == ""
    *before, sentence = answer.stderr.splitlines()
    assert sentence.startswith("rkkd: error: "), answer.stderr
    assert [part for part in parts if part not in sentence] == [], sentence
    assert not [line for line in before if alone or "error" in line], answer.stderr
    return sentence


def started(*words: str, cwd: Path) -> "subprocess.Popen[str]":
    """Start the program in a process of its own, from nothing."""

    def heed_signals() -> None:  # which a job in the background is started to ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-m", "rkkd_cli", *words], cwd=cwd, text=True,
        env={**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=None if sys.platform == "win32" else heed_signals,
    )  # fmt: skip


def wait_until(seen: Condition) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + 100
    while not seen():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def has_rows(run: Path, count: int) -> Condition:
    """Return what tells whether metrics.csv has so many rows."""
    metrics = run / "metrics.csv"
    return lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > count


def has_checkpoint(run: Path, number: int = 1, stream: str = "seed-0-kd") -> Condition:
    """Return what tells whether a stream has written so many checkpoints, and its newest one."""
    names = f"checkpoints/{stream}/0*.pt"
    return lambda: any(int(path.name[:6]) >= number for path in run.glob(names))


def meanwhile(
    act: Callable[[], object], seen: Condition, program: Program, *words: str, cwd: Path
) -> Ended:
    """Run the program; once ``seen()``, act."""
    acted, has_ended = threading.Event(), threading.Event()

    def wait_and_act() -> None:
        wait_until(lambda: has_ended.is_set() or seen())
        if not has_ended.is_set():
            act()
            acted.set()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    answer = program(*words, cwd=cwd)
    has_ended.set()
    thread.join()
    assert acted.is_set(), answer.stderr
    return answer


def signalled(
    program: Program, run: Path, seen: Condition, *words: str, number: int = signal.SIGTERM
) -> Ended:
    """Run the program, and send the run a signal once ``seen()``; it ends by this signal."""

    def send() -> None:
        manifest = manifest_of(run)
        assert manifest["status"] == "running"
        os.kill(manifest["process"], number)

    answer = meanwhile(send, seen, program, *words, cwd=run.parents[1])
    assert answer.returncode == (-number if number == signal.SIGKILL else 128 + number), (
        answer.stderr
    )
    return answer
