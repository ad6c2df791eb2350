"""What the program says of itself, at once and without importing what is slow."""

import inspect
import os
import subprocess
import sys
from collections import ChainMap
from pathlib import Path
from typing import Any

import pytest
from running import Program
from typer.main import get_command

from rkkd_cli import __version__
from rkkd_cli.cli.main import app

COMMANDS = (
    "run", "init", "grid", "resume", "plot", "report", "compare", "findings", "show", "table", "ls",
    "cat", "cp", "doctor", "teacher", "watch", "bench", "export", "predict", "evaluate",
)  # fmt: skip


def commands_below(command: Any, name: str = "") -> dict[str, Any]:
    """Return every command that can be called, ``teacher train`` among them, by its words."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        return {name: command}
    below = [commands_below(sub, f"{name} {word}".strip()) for word, sub in subcommands.items()]
    return dict(ChainMap(*below))


COMMAND_TREE = commands_below(get_command(app))


def modules_imported_by(arguments: tuple[str, ...], folder: Path) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-m", "rkkd_cli", *arguments]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = [line for line in answer.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_help_imports_little(tmp_path: Path) -> None:
    """How soon it answers therefore: `rkkd bench startup`."""
    imported = modules_imported_by(("--help",), tmp_path)
    assert len(imported) < 450
    assert imported.isdisjoint({"numpy", "pandas", "scipy", "pydantic"})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("--version",),
        ("ls", "presets"),
        ("ls", "models"),
        ("ls", "models", "torchvision"),
        ("ls", "methods"),
        ("ls", "datasets"),
        ("ls", "surrogates"),
        ("ls", "keys", "training"),
        ("cat", "rank_grad"),
        ("run", "traning.lr=1"),
        ("run", "--alpha", "2"),
    ],
    ids=" ".join,
)
def test_nothing_that_can_do_without_torch_imports_it(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    imported = modules_imported_by(arguments, tmp_path)
    assert "typer" in imported
    assert imported.isdisjoint({"torch", "torchvision", "sklearn", "matplotlib"})
    if arguments[0] == "ls":
        assert imported.isdisjoint({"numpy", "pandas"})


def test_help_lists_every_command_once(rkkd: Program) -> None:
    rows = [line.strip("│ ").split()[:1] for line in rkkd("--help").stdout.splitlines()]
    assert sorted(row[0] for row in rows if row and row[0] in COMMANDS) == sorted(COMMANDS)


def test_the_list_of_commands_here_is_the_programs() -> None:
    names = [command.name for command in app.registered_commands]
    names += [group.name for group in app.registered_groups]
    assert sorted(name or "" for name in names) == sorted(COMMANDS)


def test_help_of_run_shows_the_everyday_flags_in_panels(rkkd: Program) -> None:
    text = rkkd("run", "--help").stdout
    flags = """--dataset --data-root --teacher --student --student-weights --epochs --batch-size
        --lr --alpha --temperature --rank-grad --rank-weight --rank-steepness --rank-surrogate
        --rank-channels --seeds --device --precision --out --name --dry-run --quiet --json
        --limit-train --val-share --patience --min-delta --monitor --tensorboard --wandb --mlflow"""
    missing = [flag for flag in flags.split() if f" {flag} " not in text]
    assert not missing
    for panel in ("What to train", "How to train it", "The ranking loss", "Where and how"):
        assert f"─ {panel} ─" in text


@pytest.mark.parametrize("name", COMMAND_TREE)
def test_every_flag_says_what_it_does(name: str) -> None:
    for parameter in COMMAND_TREE[name].params:
        text = getattr(parameter, "help", None) or ""
        assert len(text.split()) >= 3, f"rkkd {name}: {parameter.name}: {text!r}"


@pytest.mark.parametrize("name", COMMAND_TREE)
def test_a_command_declares_the_types_of_its_flags(name: str) -> None:
    callback = COMMAND_TREE[name].callback
    assert callback is not None
    flags = {p.name: p.annotation for p in inspect.signature(callback).parameters.values()}
    declared = inspect.signature(inspect.unwrap(callback)).parameters
    for parameter in declared.values():
        assert flags.get(parameter.name, parameter.annotation) == parameter.annotation


def test_optional_packages_keep_their_brackets_in_help(rkkd: Program) -> None:
    assert "rkkd[ray]" in rkkd("grid", "--help").stdout


def test_the_program_without_a_command_shows_its_help(rkkd: Program) -> None:
    assert rkkd().stdout.strip() == rkkd("--help").stdout.strip()


def test_version_is_the_packages_by_module_and_by_command(rkkd: Program) -> None:
    script = Path(sys.executable).with_name("rkkd.exe" if os.name == "nt" else "rkkd")
    installed = subprocess.run([script, "--version"], capture_output=True, text=True)
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
    for answer in (rkkd("--version"), installed):
        assert (answer.returncode, answer.stdout) == (0, f"rkkd {__version__}\n")
