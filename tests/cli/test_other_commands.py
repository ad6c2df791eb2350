"""``ls``, ``cat``, ``cp``, ``show``, ``plot``, ``doctor``, ``teacher`` and ``bench``."""

import json
import os
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import Ended, FolderMaker, Program, quick, refused, succeeded

from rkkd_cli.config.presets import load_experiment, preset_directory, preset_names
from rkkd_cli.data.catalogue import DATASETS
from rkkd_cli.data.detection.reading import DETECTION_SETS
from rkkd_cli.losses import SURROGATES
from rkkd_cli.models import MODELS

FIGURES = ("rank", "kl", "test_acc", "difference", "sheet", "gradients")
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A folder with two runs, ``older`` and ``newer``."""
    place = tmp_path_factory.mktemp("two-runs")
    for name, seeds in (("older", "seeds=[0]"), ("newer", "seeds=[0,1]")):
        words = quick("device=cpu", seeds)
        succeeded(warm_rkkd("run", *words, "--name", name, "-q", cwd=place, figures=True))
    return place


def first_words(answer: Ended) -> list[str]:
    return [line.split()[0] for line in succeeded(answer).stdout.splitlines()[1:]]


def figure_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("presets", preset_names()),
        ("models", list(MODELS)),
        ("datasets", [*DATASETS, *DETECTION_SETS]),
        ("surrogates", list(SURROGATES)),
        ("runs", ["older", "newer"]),
    ],
)
def test_ls_gives_every_name_a_line(
    what: str, names: list[str], folder: Path, warm_rkkd: Program
) -> None:
    assert first_words(warm_rkkd("ls", what, cwd=folder)) == names


@pytest.mark.parametrize(("library", "name"), [("torchvision", "resnet18"), ("timm", "resnet10t")])
def test_ls_models_of_a_library_gives_their_whole_names(
    library: str, name: str, folder: Path, warm_rkkd: Program
) -> None:
    pytest.importorskip(library)
    assert f"{library}:{name}" in first_words(warm_rkkd("ls", "models", library, cwd=folder))


def test_ls_runs_tells_how_they_ended_and_on_what(folder: Path, warm_rkkd: Program) -> None:
    line = warm_rkkd("ls", "runs", cwd=folder).stdout.splitlines()[-1]
    for part in ("newer", "finished", "digits_teacher → digits_student", "kd: 0.1·ce + 0.9·kl"):
        assert part in line


@pytest.mark.parametrize("what", ["presets", "models", "methods", "datasets", "runs", "keys"])
def test_ls_as_json_has_the_same_names(what: str, folder: Path, warm_rkkd: Program) -> None:
    listed = json.loads(succeeded(warm_rkkd("ls", what, "--json", cwd=folder)).stdout)[what]
    assert [next(iter(one.values())) for one in listed] == first_words(
        warm_rkkd("ls", what, cwd=folder)
    )
    if what == "models":
        assert {type(one["parameters"]) for one in listed} == {int}


def test_ls_keys_shows_flag_type_default_and_range(folder: Path, warm_rkkd: Program) -> None:
    lines = succeeded(warm_rkkd("ls", "keys", "training", cwd=folder)).stdout.splitlines()
    (lr,) = (line for line in lines if line.startswith("training.lr "))
    assert lr.split() == [
        *["training.lr", "number,", ">", "0", "required", "Initial", "learning", "rate.", "(--lr)"]
    ]


def test_ls_presets_shows_the_titles(folder: Path, warm_rkkd: Program) -> None:
    shown = " ".join(warm_rkkd("ls", "presets", cwd=folder).stdout.split())
    for preset in preset_names():
        assert load_experiment(preset).title in shown


def test_ls_presets_shows_what_hardware_each_needs(folder: Path, warm_rkkd: Program) -> None:
    header, *lines = warm_rkkd("ls", "presets", cwd=folder).stdout.splitlines()
    assert header.split() == ["preset", "needs", "title"]
    for line, preset in zip(lines, preset_names(), strict=True):
        needs, stop, _ = load_experiment(preset).cost.partition(".")
        assert stop
        assert line.startswith(preset)
        assert f" {needs} " in line


@pytest.mark.parametrize("preset", preset_names())
def test_cat_prints_the_presets_file(preset: str, folder: Path, warm_rkkd: Program) -> None:
    file = preset_directory() / f"{preset}.toml"
    assert warm_rkkd("cat", preset, cwd=folder).stdout == file.read_text(encoding="utf-8")


def test_cp_gives_a_copy_that_runs_the_same(tmp_path: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("cp", "rank_grad", "mine.toml", cwd=tmp_path)
    assert "rkkd run mine.toml" in answer.stdout
    assert load_experiment(str(tmp_path / "mine.toml")) == load_experiment("rank_grad")


def test_what_cp_prints_can_be_pasted(tmp_path: Path, warm_rkkd: Program) -> None:
    shown = warm_rkkd("cp", "rank_grad", "größe & mehr.toml", cwd=tmp_path).stdout
    _, command, _ = shown.split("`")
    program, *words = shlex.split(command)
    assert (program, words) == ("rkkd", ["run", "größe & mehr.toml"])
    plan = json.loads(succeeded(warm_rkkd(*words, "--dry-run", "--json", cwd=tmp_path)).stdout)
    assert plan["directory"].startswith("results/gr__e___mehr-")


def test_the_command_for_own_images_runs_on_twelve_of_them(
    make_folder: FolderMaker, tmp_path: Path, warm_rkkd: Program
) -> None:
    data = ("--dataset", "folder", "--data-root", str(make_folder(2, train=4, test=2, size=32)))
    words = ("run", "rank_grad_cifar100_small", *data, "--dry-run", "--json")
    plan = json.loads(succeeded(warm_rkkd(*words, cwd=tmp_path)).stdout)
    assert "limit_train" not in plan["experiment"]["dataset"]
    refused(warm_rkkd(*words, "--limit-train", "1", cwd=tmp_path), "take 2 or more", alone=False)
    for limit in ("none", "24"):  # at most
        succeeded(warm_rkkd(*words, "--limit-train", limit, cwd=tmp_path))


def test_cp_into_a_folder_keeps_the_name(tmp_path: Path, warm_rkkd: Program) -> None:
    warm_rkkd("cp", "rank_grad", ".", cwd=tmp_path)
    assert figure_names(tmp_path) == {"rank_grad.toml"}


def test_cp_never_overwrites(tmp_path: Path, warm_rkkd: Program) -> None:
    (tmp_path / "mine.toml").write_text("mine")
    refused(warm_rkkd("cp", "rank_grad", "mine.toml", cwd=tmp_path), "mine.toml exists")
    assert (tmp_path / "mine.toml").read_text() == "mine"


@pytest.mark.parametrize("run", ["older", "results/older", "results/older/"])
def test_show_finds_a_run_by_name_and_by_folder(run: str, folder: Path, warm_rkkd: Program) -> None:
    lines = warm_rkkd("show", run, cwd=folder).stdout.splitlines()
    assert lines[0].startswith("results/older: finished")
    assert any(line.startswith("dataset digits: 200 training + 100 test") for line in lines)
    assert any(line.startswith("teacher digits_teacher") for line in lines)
    assert [line.split()[:3] for line in lines if line.startswith("kd")] == [
        ["kd", "1", "2"],
        ["kd_rank", "1", "2"],
    ]


def test_show_without_a_name_takes_the_newest_run(folder: Path, warm_rkkd: Program) -> None:
    assert warm_rkkd("show", cwd=folder).stdout.startswith("results/newer: finished")


def test_show_as_json_is_the_manifest_with_the_summary(folder: Path, warm_rkkd: Program) -> None:
    shown = json.loads(warm_rkkd("show", "newer", "--json", cwd=folder).stdout)
    manifest = json.loads((folder / "results/newer/manifest.json").read_text(encoding="utf-8"))
    summary, title, unfinished = (shown.pop(key) for key in ("summary", "title", "unfinished"))
    assert (title.partition(":")[0], unfinished) == ("digits, 200 images, 10 classes", None)
    del manifest["checksum"]
    assert shown == manifest
    assert [(arm["arm"], arm["n"], arm["epoch"]) for arm in summary] == [
        ("kd", 2, 2),
        ("kd_rank", 2, 2),
    ]
    assert all(arm["test_acc"]["std"] >= 0 for arm in summary)


def test_show_puts_published_accuracies_beside_the_measured_ones(
    folder: Path, warm_rkkd: Program
) -> None:
    stated = folder / "stated.csv"
    stated.write_text("method,rank.grad,test_acc,select\nkd,false,50,best\n", encoding="utf-8")
    answer = succeeded(warm_rkkd("show", "older", "--published", "stated.csv", cwd=folder))
    lines = answer.stdout.splitlines()
    header = next(line for line in lines if line.startswith("arm "))
    assert header.split()[-6:] == ["select", "measured", "(%)", "published", "(%)", "difference"]
    kd, kd_rank = (line.split() for line in lines if line.startswith("kd"))
    metrics = pd.read_csv(folder / "results/older/metrics.csv")
    best = metrics[metrics["arm"] == "kd"]["test_acc"].max()
    assert kd[-4:] == ["best", f"{best:.2f}", "50.00", f"{best - 50:+.2f}"]
    assert len(kd_rank) == len(kd) - 4
    assert "chosen on the test images and flatters both" in answer.stdout
    as_json = warm_rkkd("show", "older", "--published", "stated.csv", "--json", cwd=folder)
    shown = json.loads(as_json.stdout)["summary"]
    assert [arm["published"] for arm in shown] == [50.0, None]
    assert shown[0]["select"] == "best"
    assert shown[0]["measured"]["mean"] == pytest.approx(best)


def test_plot_draws_the_newest_run_into_its_own_folder(folder: Path, warm_rkkd: Program) -> None:
    figures = folder / "results" / "newer" / "figures"
    old = {path: path.stat().st_mtime_ns for path in figures.iterdir()}
    answer = warm_rkkd("plot", cwd=folder)
    assert {folder / line for line in answer.stdout.splitlines()} == set(old)
    assert all(path.stat().st_mtime_ns > before for path, before in old.items())


def test_plot_lays_runs_over_each_other_in_the_formats_asked_for(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    to = tmp_path / "new" / "figures"
    warm_rkkd("plot", "older", "newer", "--to", str(to), "--format", "svg,pdf,png", cwd=folder)
    assert figure_names(to) == {f"{name}.{suffix}" for name in FIGURES for suffix in MAGIC}
    for path in to.iterdir():
        assert path.read_bytes().startswith(MAGIC[path.suffix[1:]]), path.name
    for name in FIGURES:
        text = (to / f"{name}.svg").read_text(encoding="utf-8")
        pairs = ("older: kd_rank − kd (n = 1)", "newer: kd_rank − kd (n = 2)")
        arms = ("older: kd (n = 1)", "newer: kd_rank (n = 2)")
        for label in (*(pairs if name == "difference" else arms), "epoch"):
            assert label in text


def test_plot_draws_any_column(folder: Path, tmp_path: Path, warm_rkkd: Program) -> None:
    to = ("--to", str(tmp_path), "--format", "svg")
    succeeded(warm_rkkd("plot", "newer", "--metric", "test_ce", "--metric", "lr", *to, cwd=folder))
    assert figure_names(tmp_path) == {"test_ce.svg", "lr.svg"}
    text = (tmp_path / "test_ce.svg").read_text(encoding="utf-8")
    for label in ("test cross-entropy (nats)", "difference of test cross-entropy (nats)"):
        assert label in text
    refused(warm_rkkd("plot", "newer", "--metric", "tes_ce", cwd=folder), "'test_ce'")


def test_plot_refuses_a_folder_that_is_no_run_before_it_draws_another(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    to = tmp_path / "figures"
    refused(warm_rkkd("plot", "older", str(tmp_path), "--to", str(to), cwd=folder))
    assert not to.exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("ls models torchvison", ["did you mean 'torchvision'"]),
        ("ls runs timm", ["rkkd ls runs lists all of them"]),
        ("ls keys trainin", ["unknown section 'trainin'; did you mean 'training'?"]),
        ("watch older --json", ["add --once"]),
        ("show older --published rank_grad", ["preset rank_grad has no published values"]),
        ("show newr", ["'newr'", "did you mean 'newer'?"]),
        ("plot older --to a_file", ["a_file"]),
    ],
)
def test_a_mistake_is_one_sentence(
    words: str, parts: list[str], folder: Path, warm_rkkd: Program
) -> None:
    (folder / "a_file").touch()
    refused(warm_rkkd(*words.split(), cwd=folder), *parts)


def test_doctor_finds_versions_devices_and_writable_folders(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    env = {"RKKD_CACHE": str(tmp_path / "cache")}
    answer = warm_rkkd("doctor", cwd=folder, env=env)
    words = first_words(answer)
    for name in ("python", "torch", "torchvision", "device", "CUDA", "cache", "results", "presets"):
        assert name in words
    assert answer.stdout.count("can be written") == 2
    assert not (tmp_path / "cache").exists()


def test_doctor_fails_where_results_cannot_be_written(folder: Path, warm_rkkd: Program) -> None:
    (folder / "a_file").touch()
    answer = warm_rkkd("doctor", "--out", "a_file", cwd=folder)
    assert answer.returncode == 1
    assert "cannot be written" in answer.stdout


def test_doctor_tells_the_same_as_json(folder: Path, tmp_path: Path, warm_rkkd: Program) -> None:
    env = {"RKKD_CACHE": str(tmp_path / "cache")}
    told = json.loads(succeeded(warm_rkkd("doctor", "--json", cwd=folder, env=env)).stdout)
    assert told["cache"] == {"folder": str(tmp_path / "cache"), "problem": None, "bytes": 0}
    assert len(told["gpus"]) == torch.cuda.device_count()
    assert set(told["extras"]) >= {"ray", "timm", "wandb"}
    assert torch.__version__.startswith(told["versions"]["torch"])


def test_watch_once_as_json_has_the_curves(folder: Path, warm_rkkd: Program) -> None:
    shown = json.loads(warm_rkkd("watch", "newer", "--once", "--json", cwd=folder).stdout)
    assert (shown["run"], shown["status"]) == ("newer", "finished")
    assert shown["epochs_done"] == shown["epochs_planned"] == 2 * 2 * 2
    assert [(arm["arm"], arm["epochs"]) for arm in shown["arms"]] == [("kd", 2), ("kd_rank", 2)]
    assert [len(arm["curves"]["test_acc"]) for arm in shown["arms"]] == [2, 2]


def test_a_run_ends_with_the_commands_to_go_on(tmp_path: Path, warm_rkkd: Program) -> None:
    words = quick("device=cpu", "seeds=[0]", "training.epochs=1")
    said = succeeded(warm_rkkd("run", *words, "--name", "mine", cwd=tmp_path)).stderr
    lines = said.splitlines()[-2:]
    commands = [line.removeprefix("next:").partition("#")[0].split() for line in lines]
    assert commands == [["rkkd", "report", "mine"], ["rkkd", "compare", "mine"]]
    for _, *command in commands:
        succeeded(warm_rkkd(*command, cwd=tmp_path))


def test_teacher_train_caches_the_teacher_that_a_run_finds(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    env = {"RKKD_CACHE": str(tmp_path / "cache")}
    words = ("--device", "cpu", "--limit-train", "100", "--limit-test", "50")
    trained = warm_rkkd("teacher", "train", *words, "--epochs", "1", cwd=folder, env=env)
    assert "sha256" in succeeded(trained).stderr
    run = ("run", *words, "teacher.training.epochs=1", "--epochs", "1", "--seeds", "0", "--json")
    teachers = json.loads(warm_rkkd(*run, cwd=tmp_path, env=env).stdout)["teachers"]
    assert [teacher["source"] for teacher in teachers] == ["cache"]
    listed = warm_rkkd("teacher", "ls", cwd=folder, env=env)
    assert first_words(listed) == [teachers[0]["key"]]
    as_json = json.loads(warm_rkkd("teacher", "ls", "--json", cwd=folder, env=env).stdout)
    assert [one["key"] for one in as_json["teachers"]] == first_words(listed)
    assert teachers[0]["sha256"][:16] in listed.stdout


def test_a_cache_that_cannot_be_written_is_found_before_anything_is_trained(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    (tmp_path / "a_file").touch()
    env = {"RKKD_CACHE": os.fspath(tmp_path / "a_file")}
    answer = warm_rkkd("run", *quick("device=cpu"), cwd=tmp_path, env=env)
    assert answer.returncode != 0
    assert "a_file" in answer.stderr.splitlines()[-1]
    assert "teacher epoch" not in answer.stderr


def test_benchmarks_are_listed_run_and_their_failures_told(rkkd: Program) -> None:
    listed = rkkd("bench", "--list").stdout.splitlines()
    names = {one.split()[0] for one in listed}
    assert {"ranking_loss", "two_arms", "startup", "growth", "gpu"} <= names
    assert names.isdisjoint({"turns", "gpu_checks", "gpu_speed"})
    assert "What a pair of arms costs" in "\n".join(listed)
    refused(rkkd("bench", "two_arm"), "did you mean 'two_arms'")
    helped = rkkd("bench", "startup", "--rounds", "1", "--nonsense")
    assert helped.returncode == 1
    assert "unrecognized arguments: --nonsense" in helped.stderr
    assert "benchmark startup failed with exit status 2" in helped.stderr
