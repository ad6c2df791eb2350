"""``rkkd teacher import``: recognise a checkpoint file, measure it, and keep it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.api.recognise_teacher import as_overrides
from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_value
from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment
from rkkd_cli.config.tasks import detector_kind, task_of
from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.models.detection.published import networks_in
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.manifest import teacher_metric
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

# Keys that the printed command sets by itself, or that matter for measuring the teacher only.
NOT_REPEATED = (
    "dataset.name", "dataset.root", "dataset.limit_test", "teacher.model", "teacher.weights",
)  # fmt: skip

OPTIONS = "teacher.options"
LARGE_BYTES = 500_000_000


def read_teacher(
    path: Path, ema: bool, entry: str | None, ignore_unexpected: bool
) -> CheckpointWeights:
    """Return the weights in the file; say so first if that takes its time."""
    if path.is_file() and path.stat().st_size > LARGE_BYTES:
        print_line(err, f"reading {path}, {path.stat().st_size / 1e9:.1f} GB …")
    return read_weights(path, ema, entry, ignore_unexpected)


def import_file(
    weights: CheckpointWeights,
    model: str | None,
    preset: str | None,
    overrides: Sequence[Override],
) -> None:
    """Import the file. Print what it holds, and the command that uses it.

    If neither preset nor overrides name a dataset, it is the one in the file's metadata.
    """
    if detector_kind(metadata_fact(weights.metadata, "model") or "") or any(networks_in(weights)):
        raise UserError(_as_it_is(weights, "is a detector"))
    typed, overrides = overrides, list(overrides)
    dataset = metadata_fact(weights.metadata, "dataset")
    names_dataset = any(override.key in ("dataset", "dataset.name") for override in overrides)
    if dataset is not None and preset is None and not names_dataset:
        overrides.append(Override("dataset.name", dataset))
    source = DEFAULT_PRESET if preset is None else preset
    wanted, given = load_experiment(source, overrides), any(map(_is_option, typed))
    if wanted.task == "embedding" or metadata_fact(weights.metadata, "embedding"):
        raise UserError(_as_it_is(weights, "is for embeddings"))
    if wanted.task == "detection":
        raise UserError(_as_it_is(weights, "is to be of a detector"))
    options = wanted.teacher.given_options if given else NO_OPTIONS
    file = recognise_teacher(weights, model, images_of(wanted), options)
    overrides += as_overrides(file.model.model, file.model.options)
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
    _print_import(file, imported)
    command = _command(preset, typed, experiment, imported)
    print_line(out, shlex.join(command))


def _as_it_is(weights: CheckpointWeights, problem: str) -> str:
    return (
        f"checkpoint {weights.path} {problem}, and teachers of classes are imported; give the file "
        "to a run as it is, with --teacher-weights"
    )


def _print_import(file: TeacherFile, imported: ImportedTeacher) -> None:
    facts = imported.facts
    level = f"{task_of(facts).value_prefix}{teacher_metric(facts):.2f} %"
    print_line(
        out,
        f"teacher {facts['model']}: {level} of the {facts['test_images']:,} test images of "
        f"{facts['dataset']}, {facts['classes']} classes, {facts['parameters']:,} parameters",
    )
    print_line(out, f"taken from {_describe_weights(file)}; sha256 {file.sha256}")
    for note in imported.notes:
        print_line(err, f"rkkd: warning: {note}", style="yellow")
    print_line(out, f"kept as {facts['key']}; to use it:")


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
    if file.model.ignored:
        names, count = ", ".join(map(str, file.model.ignored[:2])), len(file.model.ignored)
        text += f", without {count} entries that the model does not have ({names}, …)"
    return text


def _command(
    preset: str | None, typed: Sequence[Override], experiment: Experiment, imported: ImportedTeacher
) -> list[str]:
    """Return the command that runs the experiment with the imported teacher.

    It repeats what was typed, such as the normalisation, so that the teacher is as measured.
    """
    words = ["rkkd", "run", *([preset] if preset else [])]
    repeated = [one for one in typed if one.key not in NOT_REPEATED and not _is_option(one)]
    options = experiment.teacher.given_options.items()
    repeated += [Override(f"{OPTIONS}.{name}", value) for name, value in options]
    words += map(_as_word, repeated)
    words += ["--dataset", experiment.dataset.name]
    if experiment.dataset.root is not None:
        words += ["--data-root", experiment.dataset.root]
    weights = str(imported.path.absolute())
    return [*words, "--teacher", imported.facts["model"], "--teacher-weights", weights]


def _is_option(override: Override) -> bool:
    return f"{override.key}.".startswith(f"{OPTIONS}.")


def _as_word(override: Override) -> str:
    """Return an override as it is typed."""
    value = override.value
    is_plain = isinstance(value, str) and parse_value(value.strip()) == value
    return f"{override.key}={value if is_plain else _as_toml(value)}"


def _as_toml(value: Any) -> str:
    """Return the value in TOML, on one line."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {_as_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
