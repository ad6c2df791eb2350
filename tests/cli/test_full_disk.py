"""A full disk: one sentence, whole rows only, and the run goes on once there is room.

Real limits: RLIMIT_FSIZE, and small and read-only file systems where this user may mount them.
"""

import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Ended, FolderMaker, Program, has_checkpoint, meanwhile, quick, succeeded
from written import numbers_of

from rkkd_cli.models import build_model
from rkkd_cli.records.metrics import append_lines
from rkkd_cli.records.run_directory import RunDirectory

RECIPE = quick("seeds=[0,1]")
RUN = ("run", "--quiet", "--name", "run", *RECIPE)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@contextmanager
def largest_file(size: int, process: int = 0) -> Iterator[None]:
    """Let no file grow over ``size`` bytes, in this process or another and its future children."""
    former, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (former, most))


@pytest.fixture(scope="module")
def server(whole: list[str]) -> int:
    """The process that forks the programs (it has answered once): they inherit its limits."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.is_file():
        pytest.skip("this kernel does not tell a process's children")
    pids = children.read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    return next(pid for pid, command in commands.items() if b"gc.freeze()" in command)


@contextmanager
def mounted(folder: Path, size: str, options: str = "") -> Iterator[Path]:
    """Give a file system of its own, or skip the test."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write until nothing fits any more."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> list[str]:
    """The numbers of the same run where there is room."""
    place = tmp_path_factory.mktemp("whole")
    succeeded(warm_rkkd(*RUN, cwd=place))
    return numbers_of(place / "results" / "run")


def the_sentence(answer: Ended, way_on: str = "rkkd resume") -> str:
    """Return the one error of a program that failed as it should."""
    assert answer.returncode == 1, answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout
    errors = [line for line in answer.stderr.splitlines() if line.startswith("rkkd: error: ")]
    assert len(errors) == 1, answer.stderr
    assert way_on in errors[0]
    return errors[0]


def nothing_half_written(folder: Path) -> bool:
    return not [path for path in folder.rglob(".*.rkkd-part") if path.is_file()]


@pytest.mark.parametrize(("size", "name"), [(800, "experiment.toml"), (20_000, "teachers/")])
def test_a_file_that_cannot_grow_stops_the_run_which_then_goes_on(
    size: int, name: str, server: int, whole: list[str], tmp_path: Path, warm_rkkd: Program
) -> None:
    run = tmp_path / "results" / "run"
    with largest_file(size, server):
        sentence = the_sentence(warm_rkkd(*RUN, cwd=tmp_path), way_on="`rkkd ")
    assert "File too large" in sentence
    assert f"(results/run/{name}" in sentence
    assert nothing_half_written(tmp_path)
    if (run / "metrics.csv").exists():
        rows = numbers_of(run)
        assert rows == whole[: len(rows)]
    succeeded(warm_rkkd("run", "--resume", "auto", "--name", "run", *RUN[4:], cwd=tmp_path))
    assert numbers_of(run) == whole


def test_a_checkpoint_that_cannot_be_written_stops_the_run_which_then_goes_on(
    server: int, tmp_path: Path, warm_rkkd: Program
) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(build_model("digits_teacher", 10, 1).state_dict(), teacher)
    words = (*RUN, "--teacher-checkpoint", "teacher.pth")
    (tmp_path / "undisturbed").mkdir()
    succeeded(warm_rkkd(*words, "--out", "undisturbed", cwd=tmp_path))
    with largest_file(30_000, server):
        sentence = the_sentence(warm_rkkd(*words, cwd=tmp_path))
    assert "checkpoints/seed-0-kd/00000" in sentence
    run = tmp_path / "results" / "run"
    manifest = RunDirectory(run).read_manifest()
    assert (manifest.status, manifest.reason) == ("failed", sentence.removeprefix("rkkd: error: "))
    shown = warm_rkkd("show", "run", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"failed: {manifest.reason}" in shown.stdout.splitlines()
    resumed = succeeded(warm_rkkd("resume", "run", cwd=tmp_path))
    assert f"rkkd: run run failed before: {manifest.reason}" in resumed.stderr.splitlines()
    assert numbers_of(run) == numbers_of(tmp_path / "undisturbed" / "run")


def test_figures_that_do_not_fit_leave_the_run_finished(
    server: int, tmp_path: Path, warm_rkkd: Program
) -> None:
    torch.save(build_model("digits_teacher", 10, 1).state_dict(), tmp_path / "teacher.pth")
    with largest_file(45_000, server):
        words = (*RUN, "--teacher-checkpoint", "teacher.pth")
        answer = warm_rkkd(*words, cwd=tmp_path, figures=True)
    assert "figures" in the_sentence(answer, way_on="")
    run = tmp_path / "results" / "run"
    assert RunDirectory(run).read_manifest().status == "finished"
    drawn = list((run / "figures").rglob("*")) if (run / "figures").exists() else []
    assert [path for path in drawn if path.read_bytes()[-8:-4] != b"IEND"] == []
    succeeded(warm_rkkd("plot", "run", cwd=tmp_path))


def test_a_disk_that_fills_up_during_the_run_stops_it(
    whole: list[str], tmp_path: Path, warm_rkkd: Program
) -> None:
    with mounted(tmp_path / "small", "3m") as disk:
        run = disk / "run"
        words, fill_it = (*RUN, "--out", "small"), partial(fill, disk)
        answer = meanwhile(fill_it, has_checkpoint(run), warm_rkkd, *words, cwd=tmp_path)
        sentence = the_sentence(answer)
        assert "No space left on device" in sentence
        assert "small/run/" in sentence
        rows = numbers_of(run)
        assert rows == whole[: len(rows)]
        succeeded(warm_rkkd("ls", "runs", "--out", "small", cwd=tmp_path))
        assert RunDirectory(run).status(RunDirectory(run).read_manifest()) in ("dead", "failed")
        the_sentence(warm_rkkd("resume", "run", "--out", "small", cwd=tmp_path))
        assert numbers_of(run)[: len(rows)] == rows[: len(numbers_of(run))]
        (disk / "filler").unlink()
        succeeded(warm_rkkd("resume", "run", "--out", "small", cwd=tmp_path))
        assert numbers_of(run) == whole


@pytest.mark.parametrize("options", ["8k", "430k", "3m,nr_inodes=10", "3m,nr_inodes=16"])
def test_a_disk_that_is_too_small_stops_the_run_and_what_is_advised_goes_on(
    options: str, whole: list[str], tmp_path: Path, warm_rkkd: Program
) -> None:
    with mounted(tmp_path / "small", options) as disk:
        sentence = the_sentence(warm_rkkd(*RUN, "--out", "small", cwd=tmp_path), way_on="`rkkd ")
        assert "No space left on device (small/run/" in sentence
        assert nothing_half_written(disk)
        if (disk / "run" / "metrics.csv").exists():
            rows = numbers_of(disk / "run")
            assert rows == whole[: len(rows)]
        remount(disk, "size=8m,nr_inodes=1000")
        succeeded(warm_rkkd(*shlex.split(sentence.split("`")[1])[1:], cwd=tmp_path))
        assert numbers_of(disk / "run") == whole


def test_a_cache_without_room_for_the_teacher_is_named(
    whole: list[str], tmp_path: Path, warm_rkkd: Program
) -> None:
    with mounted(tmp_path / "cache", "300k") as cache:
        elsewhere = {"RKKD_CACHE": str(cache)}
        sentence = the_sentence(warm_rkkd(*RUN, cwd=tmp_path, env=elsewhere))
        assert f"({cache}/teachers/" in sentence
        teacher = ("teacher", "train", "rank_grad", *RECIPE)
        assert f"({cache}/" in the_sentence(warm_rkkd(*teacher, cwd=tmp_path, env=elsewhere), "")
        assert nothing_half_written(cache)
        remount(cache, "size=8m")
        succeeded(warm_rkkd("resume", "run", cwd=tmp_path, env=elsewhere))
    assert numbers_of(tmp_path / "results" / "run") == whole


def test_a_cache_without_room_for_the_images_is_named(
    make_folder: FolderMaker, tmp_path: Path, warm_rkkd: Program
) -> None:
    images = make_folder(train=40, size=32)
    words = ("run", "--dataset", "folder", "--data-root", images.name, "--student", "cnn2")
    with mounted(tmp_path / "cache", "100k") as cache:
        answer = warm_rkkd(*words, cwd=tmp_path, env={"RKKD_CACHE": str(cache)})
        assert f"({cache}/arrays/" in the_sentence(answer, way_on="")
        assert nothing_half_written(cache)
    assert not (tmp_path / "results").exists()


def test_what_is_read_only_can_be_looked_at_and_is_not_written(
    whole: list[str], tmp_path: Path, warm_rkkd: Program
) -> None:
    with mounted(tmp_path / "results", "8m") as disk:
        succeeded(warm_rkkd(*RUN, cwd=tmp_path))
        remount(disk, "ro")
        succeeded(warm_rkkd("show", "run", cwd=tmp_path))
        succeeded(warm_rkkd("ls", "runs", cwd=tmp_path))
        succeeded(warm_rkkd("plot", "run", "--to", "figures", cwd=tmp_path))
        for words in (("plot", "run"), ("run", "--name", "other")):
            answer = warm_rkkd(*words, cwd=tmp_path)
            assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
            assert "Read-only file system" in answer.stderr
        answer = warm_rkkd("resume", "run", cwd=tmp_path)
        assert answer.returncode in (1, 2)
        assert "Read-only file system" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert numbers_of(disk / "run") == whole


@settings(max_examples=100)
@given(before=st.integers(0, 3000), lines=st.integers(1, 3000), room=st.integers(0, 2999))
def test_lines_are_appended_whole_or_not_at_all(
    before: int, lines: int, room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "appended"
    path.write_bytes(b"x" * before)
    text = "y" * (lines - 1) + "\n"
    with largest_file(before + room):
        if room >= lines:
            append_lines(path, text)
        else:
            with pytest.raises(OSError, match="appended") as failure:
                append_lines(path, text)
            assert failure.value.filename == str(path)
    assert path.read_bytes() == b"x" * before + (text.encode() if room >= lines else b"")


@pytest.mark.parametrize("room", [0, 1, 2])
def test_lines_that_do_not_fit_on_the_disk_leave_the_file_as_it_was(
    room: int, tmp_path: Path
) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    with mounted(tmp_path / "small", f"{(4 + room) * page // 1024}k") as disk:
        path = disk / "metrics.csv"
        path.write_bytes(b"x" * (4 * page - 10))
        with pytest.raises(OSError, match="No space left on device"):
            append_lines(path, "y" * (page * room + 100) + "\n")
        assert path.read_bytes() == b"x" * (4 * page - 10)
        append_lines(path, "123456789\n")
        assert path.read_bytes() == b"x" * (4 * page - 10) + b"123456789\n"
