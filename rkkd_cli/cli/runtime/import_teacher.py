"""What ``rkkd teacher import`` does."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.cli.output.console import err, out
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment
from rkkd_cli.errors import printable
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_device
from rkkd_cli.sweep.teacher_import import (
    Imported,
    TeacherFile,
    images_of,
    import_teacher,
    read_teacher_file,
    recognise_teacher,
)
from rkkd_cli.train.device import pick_device, use_threads
from rkkd_cli.train.teacher.safetensors_files import told


def import_file(
    path: Path, model: str | None, ema: bool, preset: str | None, overrides: Sequence[Override]
) -> None:
    """Import the file, and print what it is and how to use it."""
    weights = read_teacher_file(path, ema)
    named = list(overrides)
    dataset = told(weights.metadata, "dataset")
    if dataset is not None and preset is None and not _names_dataset(overrides):
        named.append(Override("dataset.name", dataset))
    chosen = DEFAULT_PRESET if preset is None else preset
    file = recognise_teacher(weights, model, images_of(load_experiment(chosen, named)))
    experiment = load_experiment(chosen, [*named, Override("teacher.model", file.model.model)])
    use_threads(experiment.threads)
    device = pick_device(experiment.device)
    check_device(experiment, device)
    steps = import_teacher(file, experiment, device, cache_directory())
    with make_reporter(err, quiet=False) as reporter:
        while True:
            try:
                reporter.show(next(steps))
            except StopIteration as end:
                imported: Imported = end.value
                break
    _print(file, imported, preset, experiment)


def _names_dataset(overrides: Sequence[Override]) -> bool:
    return any(override.key in ("dataset", "dataset.name") for override in overrides)


def _print(
    file: TeacherFile, imported: Imported, preset: str | None, experiment: Experiment
) -> None:
    facts = imported.facts
    _say(
        f"teacher {facts['model']}: {facts['test_acc']:.2f} % of the {facts['test_images']:,} test "
        f"images of {facts['dataset']}, {facts['classes']} classes, {facts['parameters']:,} "
        "parameters"
    )
    _say(f"taken from {_taken(file)}; sha256 {file.sha256}")
    if imported.near_chance:
        err.print(
            f"rkkd: warning: {facts['test_acc']:.2f} % is near the {imported.chance:.2f} % of "
            "guessing: the normalisation, the order of the classes or the preprocessing may be "
            "other than in its training (dataset.mean, dataset.std)",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    _say(f"kept as {facts['key']}; to use it:")
    _say(shlex.join(_command(preset, experiment, facts, imported.path)))


def _taken(file: TeacherFile) -> str:
    """Return which of the file's weights these are."""
    weights, where = file.weights, f"the {file.weights.format} file {file.weights.path.name}"
    if weights.key:
        where += f", entry {weights.key}"
    if file.model.taken_off:
        where += f", names without {file.model.taken_off}"
    if weights.ema:
        where += " (moving averages)"
    elif weights.other_ema:
        where += " (not the moving averages that it has, too: --ema takes those)"
    if file.model.left_out:
        where += f", without its auxiliary heads ({', '.join(file.model.left_out)})"
    if file.model.also:
        where += f"; {', '.join(file.model.also)} fits as well and gives equal outputs"
    return where


def _command(
    preset: str | None, experiment: Experiment, facts: Mapping[str, Any], weights: Path
) -> list[str]:
    words = ["rkkd", "run", *([preset] if preset else [])]
    words += ["--dataset", experiment.dataset.name]
    if experiment.dataset.root is not None:
        words += ["--data-root", experiment.dataset.root]
    return [*words, "--teacher", facts["model"], "--teacher-checkpoint", str(weights.absolute())]


def _say(text: str) -> None:
    out.print(printable(text), markup=False, highlight=False, soft_wrap=True)
