"""``rkkd run``: what it prints, what it writes, how it repeats, and how it ends."""

import hashlib
import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import Ended, Program, refused, succeeded
from written import manifest_of, numbers_of, times_below

from rkkd_cli import __version__
from rkkd_cli.models import build_model

TEACHER = ("teacher.training.epochs=2", "--limit-train", "200", "--limit-test", "100")
SHORT = (*TEACHER, "--device", "cpu", "--epochs", "2")
QUICK = (*SHORT, "--seeds", "0")
HEADER = (
    "arm,seed,epoch,lr,ce,kl,rank,kendall_tau,agreement,train_acc,test_acc,test_top5,test_ce,"
    "test_kl,test_rank,test_kendall_tau,grad_norm_kl,grad_norm_rank,grad_cosine,grad_low_share_kl,"
    "grad_low_share_rank,grad_low_share_teacher,grad_live_pairs,epoch_seconds,images_per_second"
)
FIGURES = {f"{name}.png" for name in ("rank", "kl", "test_acc", "difference", "sheet", "gradients")}


def rows_of(run: Path) -> list[str]:
    return (run / "metrics.csv").read_text(encoding="utf-8").splitlines()


def keys_of(run: Path) -> list[tuple[str, ...]]:
    return [tuple(row.split(",")[:3]) for row in rows_of(run)[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this file stand; no repository and no preset is near."""
    return tmp_path_factory.mktemp("anywhere")


@pytest.fixture(scope="module")
def first(folder: Path, warm_rkkd: Program) -> Ended:
    """The run that most tests look at, named ``first``."""
    return warm_rkkd("run", *QUICK, "--name", "first", cwd=folder, figures=True)


@pytest.fixture(scope="module")
def run(folder: Path, first: Ended) -> Path:
    """The first run's directory."""
    succeeded(first)
    return folder / "results" / "first"


@pytest.fixture(scope="module")
def diverged(folder: Path, warm_rkkd: Program) -> Ended:
    """A run with an arm that cannot go well."""
    words = ("arms.bad.training.lr=1e30", "--seeds", "3", "--name", "diverged")
    return warm_rkkd("run", *SHORT, *words, cwd=folder)


def test_a_run_leaves_experiment_manifest_metrics_and_figures(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "experiment.toml", "manifest.json", "metrics.csv", "figures", "checkpoints", "teachers",
        "final", ".lock",
    }  # fmt: skip
    assert {path.name for path in (run / "figures").iterdir()} == FIGURES
    for figure in (run / "figures").iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG\r\n")


def test_metrics_have_the_stated_columns_and_a_row_per_arm_seed_and_epoch(run: Path) -> None:
    assert rows_of(run)[0] == HEADER
    arms, epochs = ("kd", "kd_rank"), ("1", "2")
    assert sorted(keys_of(run)) == sorted((a, "0", e) for a in arms for e in epochs)


def test_metrics_are_finite_and_in_their_ranges(run: Path) -> None:
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics.notna().all(axis=None)
    for name in ("train_acc", "test_acc", "test_top5", "agreement"):
        assert metrics[name].between(0, 100).all(), name
    for name in ("rank", "kendall_tau", "test_rank", "test_kendall_tau"):
        assert metrics[name].between(-1, 1).all(), name
    assert (metrics[["ce", "kl", "test_ce", "test_kl", "lr"]] >= 0).all(axis=None)


def test_the_manifest_says_what_the_numbers_depend_on(run: Path) -> None:
    manifest = manifest_of(run)
    assert manifest["status"] == "finished"
    assert manifest["stopped"] == []
    assert manifest["started"] <= manifest["ended"]
    assert manifest["device"].startswith("cpu")
    assert manifest["command"] == ["rkkd", "run", *QUICK, "--name", "first"]
    versions = manifest["versions"]
    assert versions["rkkd"] == __version__
    assert torch.__version__.startswith(versions["torch"])
    assert {"git_commit", "platform", "processor"} <= manifest.keys()


def test_the_manifest_identifies_dataset_and_teacher(run: Path, cache: Path) -> None:
    (dataset,), (teacher,) = (manifest_of(run)[name] for name in ("datasets", "teachers"))
    assert (dataset["name"], dataset["train_images"], dataset["test_images"]) == (
        "digits", 200, 100,
    )  # fmt: skip
    assert len(bytes.fromhex(dataset["fingerprint"])) == 32
    weights = cache / "teachers" / teacher["key"] / "weights.pt"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == teacher["sha256"]
    assert teacher["parameters"] == sum(
        p.numel() for p in build_model("digits_teacher", 10, 1).parameters()
    )


def test_stdout_is_the_summary_and_the_files(run: Path, first: Ended, folder: Path) -> None:
    lines = first.stdout.splitlines()
    cells = {line.split()[0]: line.split()[1:3] for line in lines if line.startswith("kd")}
    assert cells == {"kd": ["1", "2"], "kd_rank": ["1", "2"]}  # n and the last epoch
    paths = {line for line in lines if line.startswith("results")}
    assert paths == {"results/first/metrics.csv"} | {f"results/first/figures/{f}" for f in FIGURES}
    assert all((folder / path).is_file() for path in paths)


def test_progress_is_plain_lines_on_stderr(first: Ended) -> None:
    assert "\x1b" not in first.stdout + first.stderr
    lines = first.stderr.splitlines()
    assert sum(line.startswith("seed 0  kd_rank  epoch") for line in lines) == 2
    assert any("test accuracy" in line and "sha256" in line for line in lines)


def test_the_written_experiment_repeats_the_run(
    run: Path, folder: Path, warm_rkkd: Program
) -> None:
    again = warm_rkkd(
        "run", "results/first/experiment.toml", "--name", "again", "--json", cwd=folder
    )
    assert numbers_of(folder / "results" / "again") == numbers_of(run)
    assert (folder / "results/again/experiment.toml").read_text() == (
        run / "experiment.toml"
    ).read_text()
    assert json.loads(again.stdout)["teachers"][0]["source"] == "cache"


def test_json_is_the_only_thing_on_stdout(run: Path, folder: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("run", *QUICK, "--name", "json", "--json", cwd=folder)
    result = json.loads(answer.stdout)
    assert answer.stdout.count("\n") == 1
    assert (result["run"], result["status"], result["stopped"]) == ("json", "finished", [])
    assert [arm["arm"] for arm in result["summary"]] == ["kd", "kd_rank"]
    last = pd.read_csv(folder / result["metrics"]).query("arm == 'kd' and epoch == 2")
    assert result["summary"][0]["test_acc"] == {"mean": last["test_acc"].item(), "std": None}
    assert "epoch" in answer.stderr


def test_quiet_prints_the_directory_and_nothing_else(folder: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("run", *QUICK, "--quiet", cwd=folder)
    assert answer.stderr == ""
    (line,) = answer.stdout.splitlines()
    assert Path(line).name.startswith("rank_grad-")
    assert manifest_of(folder / line)["status"] == "finished"


@pytest.mark.parametrize("form", ["--verbose", "--json"])
def test_a_dry_run_shows_the_experiment_and_writes_nothing(
    form: str, folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    before = times_below(folder)
    env = {"RKKD_CACHE": str(tmp_path / "cache")}
    words = ("run", *QUICK, "--alpha", "0.3", "--out", "new/results", "--dry-run", form)
    answer = warm_rkkd(*words, cwd=folder, env=env)
    assert answer.returncode == 0
    is_json = form == "--json"
    shown = json.loads(answer.stdout)["experiment"] if is_json else tomllib.loads(answer.stdout)
    assert (shown["method"]["alpha"], shown["training"]["epochs"]) == (0.3, 2)
    assert list(shown["arms"]) == ["kd", "kd_rank"]
    assert times_below(folder) == before
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_first_what_is_trained_and_what_it_takes(
    folder: Path, warm_rkkd: Program
) -> None:
    words = ("run", *QUICK, "--seeds", "0,1", "--name", "planned", "--dry-run")
    answer = succeeded(warm_rkkd(*words, cwd=folder))
    lines = answer.stdout.splitlines()
    about = [line[:9].strip() for line in lines]
    assert [word for word in about if word] == [
        "title", "data", "teacher", "student", "training", "arms", "time", "memory", "folder",
    ]  # fmt: skip
    told = dict(zip(about, (line[10:] for line in lines), strict=True))
    assert told["data"].startswith("digits: ")
    assert told["training"].startswith("2 epochs, batch size 64, SGD")
    assert "seeds 0, 1" in told["training"]
    assert told["arms"] == "kd: 0.1·ce + 0.9·kl"
    assert told[""] == "kd_rank: 0.1·ce + 0.9·kl + 3·rank, k = 5"
    assert told["folder"] == "results/planned; dry run: nothing was written"
    refused(warm_rkkd("run", *QUICK, "--verbose", cwd=folder), "--verbose", "--dry-run")


def test_what_a_dry_run_prints_is_what_a_run_records(
    run: Path, folder: Path, warm_rkkd: Program
) -> None:
    shown = tomllib.loads(warm_rkkd("run", *QUICK, "--dry-run", "--verbose", cwd=folder).stdout)
    assert shown == tomllib.loads((run / "experiment.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("choice", "arm"), [("on", "kd_rank"), ("off", "kd")])
def test_rank_grad_chooses_the_arm_and_changes_none_of_its_numbers(
    choice: str, arm: str, run: Path, folder: Path, warm_rkkd: Program
) -> None:
    name = f"grad-{choice}"
    warm_rkkd("run", *QUICK, "--rank-grad", choice, "--name", name, "-q", cwd=folder)
    in_company = [row for row in numbers_of(run) if row.startswith(f"{arm},")]
    assert numbers_of(folder / "results" / name)[1:] == in_company


def test_a_taken_name_is_an_error_that_leaves_the_first_run_alone(
    run: Path, folder: Path, warm_rkkd: Program
) -> None:
    before = times_below(folder)
    answer = warm_rkkd("run", *QUICK, "--alpha", "0.1", "--name", "first", cwd=folder)
    sentence = refused(answer, "--name")
    assert sentence.startswith("rkkd: error: run 'first' exists in results")
    assert times_below(folder) == before


def test_seeds_are_values_and_the_table_gives_their_spread(
    folder: Path, warm_rkkd: Program
) -> None:
    answer = warm_rkkd("run", *SHORT, "--seeds", "5:7", "--name", "seeds", cwd=folder)
    assert {key[1] for key in keys_of(folder / "results" / "seeds")} == {"5", "6"}
    table = [line for line in answer.stdout.splitlines() if line.startswith("kd")]
    assert [line.split()[1] for line in table] == ["2", "2"]
    assert all("±" in line for line in table)


def test_an_arm_that_diverges_is_named_and_the_others_go_on(diverged: Ended, folder: Path) -> None:
    assert diverged.returncode == 1
    (sentence,) = manifest_of(folder / "results" / "diverged")["stopped"]
    assert sentence in diverged.stderr
    for part in ("arm bad", "seed 3", "epoch 1", "ce is not finite"):
        assert part in sentence
    others = [(arm, "3", epoch) for epoch in ("1", "2") for arm in ("kd", "kd_rank")]
    assert keys_of(folder / "results" / "diverged") == others


def test_a_run_that_lost_an_arm_is_recorded_as_incomplete(diverged: Ended, folder: Path) -> None:
    manifest = manifest_of(folder / "results" / "diverged")
    assert manifest["status"] == "incomplete"
    assert len(manifest["stopped"]) == 1
    assert not [line for line in diverged.stdout.splitlines() if line.startswith("bad")]


def test_a_teacher_checkpoint_is_loaded_and_identified(folder: Path, warm_rkkd: Program) -> None:
    torch.save(build_model("digits_teacher", 10, 1).state_dict(), folder / "teacher.pth")
    words = ("--teacher-weights", "teacher.pth", "--name", "loaded", "--json")
    result = json.loads(warm_rkkd("run", *QUICK, *words, cwd=folder).stdout)
    sha256 = hashlib.sha256((folder / "teacher.pth").read_bytes()).hexdigest()
    (teacher,) = result["teachers"]
    assert (teacher["source"], teacher["sha256"]) == ("checkpoint", sha256)
