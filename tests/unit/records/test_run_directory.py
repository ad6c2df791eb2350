"""Run directories: made once, found again by name, path or age."""

import json
import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.files import write_atomically
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import read_metrics
from rkkd_cli.records.run_directory import (
    RunDirectory,
    check_free,
    check_name,
    create_run_directory,
    find_runs,
    never_began,
    new_name,
    newest_run,
    open_run,
)


def manifest_of(name: str, **changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "run": name,
        "status": "finished",
        "started": "2025-01-01T00:00:00+00:00",
        "command": ["rkkd", "run"],
        "device": "cpu (α)",
        "threads": 1,
        "versions": {"torch": "2.11"},
        "platform": "Linux",
        "processor": "one",
        "git_commit": None,
    }
    return Manifest(**(facts | changes))


def make_run(out: Path, name: str, started: str = "2025-01-01T00:00:00+00:00") -> RunDirectory:
    run = create_run_directory(out, name)
    run.write_manifest(manifest_of(name, started=started))
    run.release()
    return run


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_new_run_gets_a_folder_and_missing_parents(tmp_path: Path) -> None:
    run = create_run_directory(tmp_path / "a" / "b", "first")
    assert run.path == tmp_path / "a" / "b" / "first"
    assert run.path.is_dir()
    assert run.name == "first"
    assert {run.metrics.name, run.experiment.name} == {"metrics.csv", "experiment.toml"}


def test_a_name_that_is_taken_is_refused_and_its_run_untouched(tmp_path: Path) -> None:
    make_run(tmp_path, "first")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"run 'first' exists in .* choose another --name"):
        check_free(tmp_path, "first")
    with pytest.raises(UserError, match="choose another --name"):
        create_run_directory(tmp_path, "first")
    assert contents(tmp_path) == before


def test_a_name_that_a_file_has_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        check_free(tmp_path, "first")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", ".hidden", "a b", "a" * 65])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run name"):
        check_free(tmp_path, name)
    assert contents(tmp_path) == set()


@pytest.mark.parametrize("below", ["", "new", "new/deeper/still"])
def test_a_trial_of_a_free_name_leaves_nothing(below: str, tmp_path: Path) -> None:
    check_free(tmp_path / below, "first")
    assert contents(tmp_path) == set()


def test_an_output_folder_that_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("no folder")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "file" / "a" / "b"):
        with pytest.raises(UserError, match="cannot write to the output folder"):
            check_free(out, "first")
        with pytest.raises((RunError, UserError)):
            create_run_directory(out, "first")
    assert contents(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_run_without_a_name_is_called_after_its_preset_and_the_time() -> None:
    time = datetime(2025, 3, 4, 5, 6, 7)
    assert new_name("digits", time) == "digits-20250304-050607"
    check_name(new_name("x" * 64, time) + "-2")


def test_the_handle_can_be_pasted(tmp_path: Path) -> None:
    handle = RunDirectory(tmp_path / "my results" / "a").handle
    assert shlex.split(handle) == [str(tmp_path / "my results" / "a")]
    assert RunDirectory(Path("results/a")).handle == "a"


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    for status in ("running", "failed"):
        manifest = manifest_of("first", status=status, reason="α", further={"a": 0.1})
        run.write_manifest(manifest)
        assert run.read_manifest() == manifest
    assert contents(run.path) == {"manifest.json", ".lock"}


def test_a_manifest_that_cannot_be_written_leaves_the_former_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    before = run.read_manifest()
    with pytest.raises(ValueError, match="JSON"):
        run.write_manifest(manifest_of("first", resumed=[{"loss": float("nan")}]))
    assert run.read_manifest() == before
    assert contents(run.path) == {"manifest.json", ".lock"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_atomically(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "first"
    assert contents(tmp_path) == {"text"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"3"])
def test_a_damaged_manifest_is_refused_and_named(content: bytes, tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    (run.path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        run.read_manifest()


def test_the_newest_run_is_the_one_started_last_whatever_its_name(tmp_path: Path) -> None:
    make_run(tmp_path, "z", "2025-01-01T00:00:00+00:00")
    make_run(tmp_path, "a", "2025-03-01T00:00:00+00:00")
    make_run(tmp_path, "m", "2025-02-01T00:00:00+00:00")
    assert [run.name for run in find_runs(tmp_path)] == ["z", "m", "a"]
    assert newest_run(tmp_path).name == "a"


def test_a_folder_that_is_no_run_is_not_among_the_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "first")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in find_runs(tmp_path)] == ["first"]


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    make_run(tmp_path, "good")
    (make_run(tmp_path, "bad").path / "manifest.json").write_text("{")
    assert newest_run(tmp_path).name == "good"


@pytest.mark.parametrize("out", ["", "missing"])
def test_no_runs_at_all_is_said_with_the_way_out(out: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no runs in .*; `rkkd run` makes one"):
        newest_run(tmp_path / out)


def test_a_run_is_opened_by_name_and_by_path(tmp_path: Path) -> None:
    make_run(tmp_path / "results", "first")
    path = tmp_path / "results" / "first"
    assert open_run("first", tmp_path / "results").path == path
    assert open_run(str(path), tmp_path / "elsewhere").path == path


def test_an_unknown_run_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    make_run(tmp_path, "digits-first")
    make_run(tmp_path, "other")
    with pytest.raises(UserError, match=r"no run 'digits-frist'.*did you mean 'digits-first'"):
        open_run("digits-frist", tmp_path)


def test_an_unlike_name_is_refused_with_the_command_that_lists_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run 'x' in .*`rkkd ls runs`"):
        open_run("x", tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run directory: it has no manifest\.json"):
        open_run(str(tmp_path), tmp_path / "results")


def test_a_manifest_is_plain_readable_json(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    text = (run.path / "manifest.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text)["run"] == "first"


def test_a_name_nobody_chose_is_followed_by_a_number_where_it_is_taken(tmp_path: Path) -> None:
    names = [create_run_directory(tmp_path, "digits", or_next=True).name for _ in range(3)]
    make_run(tmp_path, "digits")
    assert names == ["digits", "digits-2", "digits-3"]
    check_free(tmp_path, "digits", or_next=True)
    with pytest.raises(UserError, match="run 'digits' exists"):
        check_free(tmp_path, "digits")


def test_a_second_process_is_told_which_one_holds_an_ended_run(tmp_path: Path) -> None:
    run, second = make_run(tmp_path, "a"), RunDirectory(tmp_path / "a")
    run.acquire()
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}; wait"):
        second.acquire()
    (run.path / ".holder").write_text("no number", encoding="utf-8")
    with pytest.raises(UserError, match="in use by another process; wait"):
        second.acquire()
    run.release()
    second.acquire()
    second.release()
    assert contents(run.path) == {"manifest.json", ".lock"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX devices and pipes")
@pytest.mark.parametrize("kind", ["device", "pipe", "sparse"])
@pytest.mark.parametrize("name", ["metrics.csv", "experiment.toml"])
def test_files_without_an_end_are_refused_at_once(kind: str, name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    path = run.path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(2**42)
    reason = "it has more than" if kind == "sparse" else "it is no regular file"
    read = read_experiment if name == "experiment.toml" else read_metrics
    with pytest.raises(UserError, match=rf"{name}.*{reason}"):
        read(path)
    assert name == "experiment.toml" or not never_began(run.path)
