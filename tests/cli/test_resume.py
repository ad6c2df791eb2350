"""The command line of resume: what goes on, what says that it has ended, what cannot be meant."""

import json
import re
import signal
from pathlib import Path

import pytest
from running import TWELVE, Program, has_rows, quick, refused, signalled, succeeded
from terminals import on_a_terminal
from written import content_below, manifest_of, numbers_of

FIGURES = {f"{name}.png" for name in ("rank", "kl", "test_acc", "difference", "sheet", "gradients")}


def test_a_resumed_run_ends_with_the_same_numbers_and_its_figures(
    stopped: Path, whole: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    result = warm_rkkd("resume", "stopped", cwd=tmp_path, figures=True)
    assert (result.returncode, numbers_of(stopped)) == (0, whole), result.stderr
    assert "going on after epoch" in result.stderr
    assert {path.name for path in (stopped / "figures").iterdir()} == FIGURES
    assert "results/stopped/figures/sheet.png" in result.stdout.splitlines()


def test_the_whole_command_line_again_goes_on_too_whatever_became_of_the_cache(
    stopped: Path, whole: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    lost = {"RKKD_CACHE": str(tmp_path / "empty-cache")}
    words = ("run", "rank_grad", *TWELVE, "--resume", "stopped", "--json")
    result = warm_rkkd(*words, cwd=tmp_path, env=lost)
    assert (result.returncode, numbers_of(stopped)) == (0, whole), result.stderr
    said = json.loads(result.stdout)
    assert (said["run"], said["status"]) == ("stopped", "finished")
    assert [one["n"] for one in said["summary"]] == [1, 1]
    assert "training the teacher" not in result.stderr


def test_auto_begins_goes_on_after_a_kill_and_then_says_that_it_is_finished(
    whole: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    run, line = (
        tmp_path / "results" / "x",
        ("run", *TWELVE, "--name", "x", "--resume", "auto", "-q"),
    )
    signalled(warm_rkkd, run, has_rows(run, 4), *line, number=signal.SIGKILL)
    first = manifest_of(run)
    gone_on = warm_rkkd(*line, cwd=tmp_path)
    assert (gone_on.returncode, numbers_of(run)) == (0, whole), gone_on.stderr
    assert gone_on.stdout == "results/x\n"
    (entry,) = manifest_of(run)["resumed"]
    assert entry.keys() == {"at", "command", "device", "torch", "notes"}
    assert entry["command"] == ["rkkd", *line, "--no-figures"]
    assert entry["at"] > first["started"] == manifest_of(run)["started"]
    written = (run / "metrics.csv").stat().st_mtime_ns
    again = warm_rkkd(*line, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "results/x\n")
    assert again.stderr == "rkkd: run x is finished: there is nothing to resume\n"
    assert (run / "metrics.csv").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "rows"), [(("arms.bad.training.lr=1e30",), 4), (("training.lr=1e30",), 0)]
)
def test_a_run_with_diverged_arms_is_incomplete_also_when_resumed(
    words: tuple[str, ...], rows: int, warm_rkkd: Program, tmp_path: Path
) -> None:
    line = ("run", *quick("device=cpu", *words), "--name", "x", "--resume", "auto", "--json")
    first, again = (warm_rkkd(*line, cwd=tmp_path) for _ in range(2))
    assert (first.returncode, again.returncode) == (1, 1), again.stderr
    assert again.stderr == "rkkd: run x is incomplete: there is nothing to resume\n"
    said = json.loads(again.stdout)
    assert said["status"] == "incomplete"
    assert said["stopped"] == json.loads(first.stdout)["stopped"] != []
    assert len(numbers_of(tmp_path / "results" / "x")) == 1 + rows


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "--resume", "auto"), ["--name"]),
        (("run", "--name", "auto"), ["'auto'", "--resume auto"]),
        (("run", "--resume", "stoped"), ["'stoped'", "'stopped'"]),
        (("resume", "stoped"), ["'stoped'", "'stopped'"]),
        (("resume", "auto"), ["'auto'"]),
        (("run", "--resume", "stopped", "--name", "other"), ["other", "stopped", "--name"]),
        (("run", "--resume", "auto", "--name", "../stopped"), ["'../stopped'"]),
        (("resume", "stopped", "rank_grad"), ["'rank_grad'", "KEY=VALUE"]),
        (("run", *TWELVE, "--name", "stopped"), ["'stopped'", "resume"]),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence_and_changes_nothing(
    words: tuple[str, ...], named: list[str], stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    before = content_below(tmp_path)
    result = warm_rkkd(*words, cwd=tmp_path)
    refused(result, *named)
    assert content_below(tmp_path) == before


@pytest.mark.parametrize("minutes", ["-1", "nan", "often"])
@pytest.mark.parametrize("words", [("resume", "stopped"), ("run", "--resume", "stopped")])
def test_checkpoint_minutes_are_a_number_from_0_on(
    words: tuple[str, ...], minutes: str, stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    before = content_below(tmp_path)
    result = warm_rkkd(*words, "--checkpoint-minutes", minutes, cwd=tmp_path)
    assert result.returncode == 2
    assert "--checkpoint-minutes" in result.stderr
    assert content_below(tmp_path) == before


def test_auto_leaves_a_folder_alone_that_is_no_run(warm_rkkd: Program, tmp_path: Path) -> None:
    mine = tmp_path / "results" / "mine"
    mine.mkdir(parents=True)
    for name in ("data.csv", ".notes-20260101"):
        (mine / name).write_text("of the user\n", encoding="utf-8")
    before = content_below(mine)
    result = warm_rkkd("run", *TWELVE, "--name", "mine", "--resume", "auto", cwd=tmp_path)
    refused(result, "mine", "no run")  # and not: experiment.toml is no valid TOML
    assert content_below(mine) == before


def test_a_dry_run_of_resume_shows_the_plan_and_writes_nothing(
    stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    before = content_below(tmp_path)
    result = succeeded(warm_rkkd("run", "--resume", "stopped", "--dry-run", cwd=tmp_path))
    assert "12 epochs, batch size" in result.stdout
    assert "results/stopped" in result.stdout
    fresh = ("run", *TWELVE, "--name", "new", "--resume", "auto", "--dry-run")
    succeeded(warm_rkkd(*fresh, cwd=tmp_path))
    other = warm_rkkd("run", "--resume", "stopped", "--lr", "1", "--dry-run", cwd=tmp_path)
    refused(other, "training.lr (0.02 → 1.0)")
    assert content_below(tmp_path) == before


@pytest.mark.slow
def test_on_a_terminal_the_bars_of_a_resumed_run_start_where_it_was(stopped: Path) -> None:
    done = (len(numbers_of(stopped)) - 1) // 2
    shown = on_a_terminal("resume", "stopped", cwd=stopped.parents[1], env={"NO_COLOR": "1"})
    first = shown.split("seed 0 kd ")[1].splitlines()[0]
    assert first.count("━") >= 16 * done // 12
    (epoch,) = re.findall(r"(\d+)/12", first)
    assert int(epoch) >= done  # more where an epoch ends before anything is drawn
