"""``rkkd teacher import``: recognise a checkpoint file, measure it, and keep it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_device
from rkkd_cli.sweep.teacher_import import (
    ImportedTeacher,
    TeacherFile,
    images_of,
    import_teacher,
    recognise_teacher,
)
from rkkd_cli.train.device import pick_device, use_threads
from rkkd_cli.train.teacher.safetensors_files import metadata_fact


def import_file(
    path: Path, model: str | None, ema: bool, preset: str | None, overrides: Sequence[Override]
) -> None:
    """Import the file. Print what it holds, and the command that uses it.

    If neither preset nor overrides name a dataset, it is the one in the file's metadata.
    """
    weights = read_weights(path, ema)
    overrides = list(overrides)
    dataset = metadata_fact(weights.metadata, "dataset")
    names_dataset = any(override.key in ("dataset", "dataset.name") for override in overrides)
    if dataset is not None and preset is None and not names_dataset:
        overrides.append(Override("dataset.name", dataset))
    source = DEFAULT_PRESET if preset is None else preset
    file = recognise_teacher(weights, model, images_of(load_experiment(source, overrides)))
    overrides.append(Override("teacher.model", file.model.model))
    experiment = load_experiment(source, overrides)
    use_threads(experiment.threads)
    device = pick_device(experiment.device)
    check_device(experiment, device)
    steps = import_teacher(file, experiment, device, cache_directory())
    with make_reporter(err, quiet=False) as reporter:
        while True:
            try:
                reporter.show(next(steps))
            except StopIteration as end:
                imported: ImportedTeacher = end.value
                break
    _print_import(file, imported, preset, experiment)


def _print_import(
    file: TeacherFile, imported: ImportedTeacher, preset: str | None, experiment: Experiment
) -> None:
    facts = imported.facts
    print_line(
        out,
        f"teacher {facts['model']}: {facts['test_acc']:.2f} % of the {facts['test_images']:,} test "
        f"images of {facts['dataset']}, {facts['classes']} classes, {facts['parameters']:,} "
        "parameters",
    )
    print_line(out, f"taken from {_describe_weights(file)}; sha256 {file.sha256}")
    if imported.near_chance:
        print_line(
            err,
            f"rkkd: warning: {facts['test_acc']:.2f} % is near the {imported.chance:.2f} % of "
            "guessing: the normalisation (dataset.mean, dataset.std), the order of the classes or "
            "the preprocessing may differ from those of its training",
            style="yellow",
        )
    print_line(out, f"kept as {facts['key']}; to use it:")
    print_line(out, shlex.join(_command(preset, experiment, facts, imported.path)))


def _describe_weights(file: TeacherFile) -> str:
    """Return the file's name and which of its weights were taken."""
    weights, text = file.weights, f"the {file.weights.format} file {file.weights.path.name}"
    if weights.key:
        text += f", entry {weights.key}"
    if file.model.stripped_prefix:
        text += f", names without {file.model.stripped_prefix}"
    if weights.ema:
        text += " (moving averages)"
    elif weights.has_other_ema:
        text += " (not the moving averages that it also has; --ema takes those)"
    if file.model.dropped_heads:
        text += f", without its auxiliary heads ({', '.join(file.model.dropped_heads)})"
    return text


def _command(
    preset: str | None, experiment: Experiment, facts: Mapping[str, Any], weights: Path
) -> list[str]:
    """Return the command that runs the experiment with the imported teacher."""
    words = ["rkkd", "run", *([preset] if preset else [])]
    words += ["--dataset", experiment.dataset.name]
    if experiment.dataset.root is not None:
        words += ["--data-root", experiment.dataset.root]
    return [*words, "--teacher", facts["model"], "--teacher-checkpoint", str(weights.absolute())]
