"""What the shell completes, asked as Typer's scripts for bash, zsh and fish ask."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rkkd_cli.cli.flags import completion
from rkkd_cli.cli.flags import experiment as flags
from rkkd_cli.cli.flags.flag import Flag
from rkkd_cli.cli.flags.runs import RUN, SELECT, format_flag
from rkkd_cli.config.shipped import preset_names

ROOT = Path(__file__).parents[2]
METRIC = Flag("metric", str, "A column.")
ARMS = Flag("arms", list[str], "Arms.", positional=True)


def completed(flag: Flag, word: str, **given: object) -> list[str]:
    return completion.candidates(flag, given, word)


@pytest.mark.parametrize(
    ("flag", "word", "some"),
    [
        (flags.WORDS, "rank_grad_c", ["rank_grad_cifar100", "rank_grad_cifar100_short"]),
        (flags.WORDS, "method.name=dk", ["method.name=dkd"]),
        (flags.WORDS, "training.sch", ["training.schedule=", "training.schedule=cosine"]),
        (flags.WORDS, "rank.steep", ["rank.steepness=", "rank.steepness=100"]),
        (flags.WORDS, "training.opt", ["training.optimizer=", "training.optimizer=adamw"]),
        (flags.TEACHER, "resnet32", ["resnet32", "resnet32x4"]),
        (flags.STUDENT, "torchvision:resnet1", ["torchvision:resnet18", "torchvision:resnet101"]),
        (flags.DATASET, "cifar", ["cifar10", "cifar100"]),
        (flags.METHOD, "d", ["dkd", "dist"]),
        (flags.MONITOR, "val_a", ["val_acc"]),
        (flags.RANK_SURROGATE, "tanh", ["tanh", "tanh_product"]),
        (flags.RANK_GRAD, "o", ["on", "off"]),
        (flags.PRECISION, "", ["fp32", "tf32", "bf16"]),
        (SELECT, "b", ["best"]),
        (format_flag("text", "md"), "", ["text", "md"]),
    ],
)
def test_names_keys_and_values_are_completed(flag: Flag, word: str, some: list[str]) -> None:
    found = completed(flag, word)
    assert set(some) <= set(found)
    assert all(one.startswith(word) for one in found)


def test_presets_come_first_and_only_once() -> None:
    assert completed(flags.WORDS, "") == preset_names()
    assert "rank.grad=" in completed(flags.WORDS, "rank")
    given = ["rank_grad", "training.lr=0.1"]
    assert not {*completed(flags.WORDS, "", words=given)} & {*preset_names()}
    assert "rank_grad" in completed(flags.WORDS, "", words=["training.lr=0.1"])


def test_runs_their_arms_and_their_columns_are_completed(tmp_path: Path) -> None:
    run = tmp_path / "study"
    run.mkdir()
    (run / "manifest.json").touch()
    (run / "experiment.toml").write_text("[arms.kd]\n[arms.other]\n", encoding="utf-8")
    (run / "metrics.csv").write_text("arm,seed,epoch,test_acc,test_kl\n", encoding="utf-8")
    assert completed(RUN, "st", out=tmp_path) == ["study"]
    assert completed(ARMS, "", out=tmp_path, run="study") == ["kd", "other"]
    assert completed(METRIC, "test_", out=tmp_path, run="study") == ["test_acc", "test_kl"]
    assert completed(METRIC, "test_", out=tmp_path) == ["test_acc", "test_kl"]
    assert completed(ARMS, "", out=tmp_path, run="none") == []


@pytest.mark.parametrize(
    ("typed", "words", "kept"),
    [
        (["rkkd", "run", "method.name", "=", "dk"], ["rkkd", "run", "dk"], "method.name="),
        (["rkkd", "run", "method.name", "="], ["rkkd", "run", ""], "method.name="),
        (["rkkd", "run", "--teacher", "timm", ":", "res"], ["rkkd", "run", "--teacher", "res"],
         "timm:"),
        (["rkkd", "run", "--teacher", "=", "timm", ":"], ["rkkd", "run", "--teacher", ""], "timm:"),
        (["rkkd", "run", "a.b", "=", "1", "ra"], ["rkkd", "run", "a.b=1", "ra"], ""),
        (["rkkd", ""], ["rkkd", ""], ""),
    ],
)  # fmt: skip
def test_what_bash_splits_is_put_together(
    typed: list[str], words: list[str], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(completion.COMPLETE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(typed))
    monkeypatch.setenv("COMP_CWORD", str(len(typed) - 1))
    monkeypatch.setenv(completion.KEPT, "")
    completion.join_words_of_bash()
    assert os.environ["COMP_WORDS"].split("\n") == words
    assert int(os.environ["COMP_CWORD"]) == len(words) - 1
    assert os.environ[completion.KEPT] == kept


def test_the_script_completes_rkkd_however_it_was_started() -> None:
    typed = f"{shlex.quote(sys.executable)} -m rkkd_cli --show-completion && true"
    command = ["bash", "-c", typed]  # `&& true`: a bash stays that Typer finds as the shell
    script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert script.rstrip().endswith(" rkkd")
    assert "python" not in script


def asked(surroundings: Mapping[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    program = "import sys; sys.argv = ['rkkd']; from rkkd_cli.cli.main import main; main()"
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(
        command, env={**os.environ, **surroundings}, cwd=ROOT, capture_output=True, text=True
    )


BASH = {"_RKKD_COMPLETE": "complete_bash", "COMP_WORDS": "rkkd\nrun\nmethod.name\n=\nd",
        "COMP_CWORD": "4"}  # fmt: skip
ZSH = {"_RKKD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "rkkd run method.name=d"}
FISH = {"_RKKD_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "rkkd run method.name=d"}  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "values"),
    [
        (BASH, ["dkd", "dist"]),
        (ZSH, ['"method.name=dkd"', '"method.name=dist"']),
        (FISH, ["method.name=dkd", "method.name=dist"]),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_each_shell_gets_its_answer_without_torch(shell: dict[str, str], values: list[str]) -> None:
    answer = asked(shell, "-X", "importtime")
    assert all(value in answer.stdout for value in values), answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "numpy", "pandas", "torchvision"})


def transcript() -> list[tuple[str, list[str]]]:
    """Return what the page on runs shows: what is typed before <Tab>, and the words below it."""
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    parts = [part.splitlines() for part in shown.split("$ ")[1:]]
    return [(typed.removesuffix("<Tab>"), words) for typed, *words in parts]


@pytest.mark.parametrize(("typed", "words"), transcript())
def test_the_transcript_of_the_page_is_what_bash_gets(typed: str, words: list[str]) -> None:
    split = re.findall(r"[=:]|[^\s=:]+", typed)  # as bash splits a line into words
    surroundings = {
        "_RKKD_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(split),
        "COMP_CWORD": str(len(split) - 1),
    }
    assert asked(surroundings).stdout.split() == words
