"""Images or a teacher that changed between stop and resume: refused, and nowhere recorded."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from written import manifest_of

from rkkd_cli.models import build_model

Program = Callable[..., subprocess.CompletedProcess[str]]
FolderMaker = Callable[..., Path]

SHORT = ("teacher.training.epochs=2", "--device", "cpu", "--seeds", "0", "-q")
DIGITS = (*SHORT, "dataset.limit_train=200", "dataset.limit_test=100", "--epochs", "12")


def stopped_when(
    seen: Callable[[], bool], number: int, program: Program, run: Path, *arguments: str
) -> None:
    """Run the program, and send it the signal once ``seen()``."""

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not seen() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(manifest_of(run)["process"], number)

    watcher = threading.Thread(target=stop)
    watcher.start()
    result = program("run", *arguments, "--name", run.name, cwd=run.parents[1])
    watcher.join()
    expected = -number if number == signal.SIGKILL else 128 + number
    assert result.returncode == expected, result.stderr


def rows(run: Path, count: int) -> Callable[[], bool]:
    metrics = run / "metrics.csv"
    return lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > count


def repaint(root: Path) -> bytes:
    """Change one training image; return what it was."""
    path = root / "train" / "class001" / "0.png"
    content = path.read_bytes()
    Image.new("RGB", (8, 8), "red").save(path)
    return content


def test_changed_images_are_refused_before_a_teacher_is_trained_on_them(
    make_folder: FolderMaker, warm_rkkd: Program, cache: Path, tmp_path: Path
) -> None:
    root, run = make_folder(size=8), tmp_path / "results" / "images"
    words = ("--dataset", "folder", "--data-root", root.name, *SHORT, "--epochs", "200")
    stopped_when(rows(run, 4), signal.SIGTERM, warm_rkkd, run, *words)
    record, teachers = manifest_of(run), set((cache / "teachers").iterdir())
    repaint(root)
    result = warm_rkkd("resume", "images", "-q", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "the images of folder are not those that the run began with" in result.stderr
    after = manifest_of(run)
    assert (after["datasets"], after["teachers"]) == (record["datasets"], record["teachers"])
    assert set((cache / "teachers").iterdir()) == teachers


def test_changed_images_are_refused_also_where_only_later_arms_would_see_them(
    make_folder: FolderMaker, warm_rkkd: Program, tmp_path: Path
) -> None:
    root, run = make_folder(size=8, train=80), tmp_path / "results" / "later"
    words = (
        "--dataset", "folder", "--data-root", root.name, *SHORT, "--epochs", "1",
        "arms.kd_rank.training.batch_size=1",
    )  # fmt: skip
    streams = run / "checkpoints"
    first_done = lambda: any(streams.glob("seed-0-kd/*.pt"))  # noqa: E731
    stopped_when(first_done, signal.SIGKILL, warm_rkkd, run, *words)
    assert not list(streams.glob("seed-0-kd_rank/*.pt"))
    repaint(root)
    result = warm_rkkd("resume", "later", "-q", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "images" in result.stderr


def test_a_replaced_teacher_file_is_refused_and_leaves_no_trace_in_the_manifest(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    for seed, name in enumerate(("first.pt", "second.pt")):
        torch.manual_seed(seed)
        torch.save(build_model("digits_teacher", 10, 1).state_dict(), tmp_path / name)
    run, used = tmp_path / "results" / "taught", tmp_path / "teacher.pt"
    shutil.copy(tmp_path / "first.pt", used)
    words = (*DIGITS, "--teacher-checkpoint", used.name)
    stopped_when(rows(run, 2), signal.SIGTERM, warm_rkkd, run, *words)
    teachers = manifest_of(run)["teachers"]
    shutil.copy(tmp_path / "second.pt", used)
    result = warm_rkkd("resume", "taught", "-q", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "the teacher digits_teacher is not the one that the run began with" in result.stderr
    assert manifest_of(run)["teachers"] == teachers
    shutil.copy(tmp_path / "first.pt", used)
    assert warm_rkkd("resume", "taught", "-q", cwd=tmp_path).returncode == 0
