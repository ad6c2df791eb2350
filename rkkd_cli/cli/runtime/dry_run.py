"""``rkkd run --dry-run``: check everything, then show what would be trained and what it takes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from rkkd_cli.cli.output.console import err, out, print_line, print_text
from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.description import Counts, with_counts
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.presets import to_toml
from rkkd_cli.data.headers import Headers
from rkkd_cli.data.reading import check_images, inspect_images
from rkkd_cli.errors import UserError
from rkkd_cli.models import count_parameters
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.report.run_text import augmentation_text, min_size_text
from rkkd_cli.report.setting_text import recipe_text
from rkkd_cli.sweep.check import CheckedStream, check_device, check_experiment
from rkkd_cli.sweep.datasets import (
    dataset_request,
    detection_request,
    usual_sides,
    will_download,
)
from rkkd_cli.sweep.doubts import doubts
from rkkd_cli.sweep.estimate import StreamEstimate, estimate_stream, free_memory
from rkkd_cli.sweep.jobs import sources_key
from rkkd_cli.train.device import describe_device, keep_freed_memory, pick_device, use_threads

MANY_ARMS = 500  # take a while to check
MAX_OBJECTIVES, MAX_NAMES = 20, 8  # that are shown
SPANS = {"s": 90, "min": 90 * 60, "h": 72 * 3600}  # up to so many seconds in each unit

Lines = Iterator[tuple[str, str]]  # what a line is about, and the line


def print_plan(experiment: Experiment, directory: Path, as_json: bool, verbose: bool) -> None:
    """Check the experiment and print what would be trained: as lines on stdout, or as JSON there.

    With ``verbose`` stdout gets the resolved experiment as TOML, and the lines go to stderr.
    """
    headers = headers_of(experiment)
    if len(experiment.arms) > MANY_ARMS:
        print_line(err, f"checking {len(experiment.arms):,} arms")
    use_threads(experiment.threads)
    keep_freed_memory()
    device = pick_device(experiment.device)
    try:
        checked = check_experiment(experiment, cache_directory())
        check_device(experiment, device)
        _check_images(checked)
    except UserError:  # mixed images often say why
        mixed = (read for read in headers.values() if len(read.sizes) != 1 or read.unreadable)
        print_lines(_image_lines(mixed), to_stderr=True)
        raise
    dataset = checked[0].dataset
    named = with_counts(experiment, Counts(dataset.num_classes, dataset.train_images))
    estimates = [estimate_stream(stream.arms, stream.recipes, device) for stream in checked]
    plan = Plan(named, directory, describe_device(device), free_memory(device), checked, estimates)
    if as_json:
        typer.echo(json.dumps(plan.as_json()))
        return
    print_lines(plan.lines(headers), to_stderr=verbose)
    if verbose:
        print_text(to_toml(named))


class Plan(NamedTuple):
    """A checked experiment, where it would be trained, and what its streams take."""

    experiment: Experiment
    directory: Path
    device: str
    free_bytes: int
    streams: Sequence[CheckedStream]
    estimates: Sequence[StreamEstimate]

    def lines(self, headers: Mapping[DatasetConfig, Headers]) -> Lines:
        """Yield what would be trained, and what it takes."""
        if self.experiment.title:
            yield "title", self.experiment.title
        for stream in self.streams:
            yield from stream_lines(stream, headers.get(stream.experiment.dataset))
            yield from _objective_lines(stream.objectives)
        yield from self._cost_lines()
        yield from (("warning", sentence) for sentence in doubts(self.streams))
        yield "folder", f"{self.directory}; dry run: nothing was written"

    def as_json(self) -> dict[str, Any]:
        """Return the plan as one JSON object."""
        pairs = zip(self.streams, self.estimates, strict=True)
        return {
            "experiment": self.experiment.model_dump(mode="json", exclude_none=True),
            "directory": str(self.directory),
            "device": self.device,
            "free_bytes": self.free_bytes,
            "streams": [_stream_json(stream, estimate) for stream, estimate in pairs],
            "warnings": doubts(self.streams),
        }

    def _cost_lines(self) -> Lines:
        """Yield the time of all streams and seeds, one after another, and the largest memory."""
        seeds, seconds = len(self.experiment.seeds), sum(one.seconds for one in self.estimates)
        teachers = {
            sources_key(stream.experiment): estimate.teacher_seconds
            for stream, estimate in zip(self.streams, self.estimates, strict=True)
        }
        whom = "teacher" + "s" * any(stream.experiment.teachers for stream in self.streams)
        share = sum(one.teacher_share * one.seconds for one in self.estimates) / seconds
        a_seed = f", {span_text(seconds)} a seed" if seeds > 1 else ""
        time = (
            f"about {span_text(seconds * seeds)}{a_seed}, {100 * share:.0f} % of it in the "
            f"forward pass of the {whom}"
        )
        if training := sum(teachers.values()):
            time += f"; first {span_text(training)} to train the {whom}, unless cached"
        yield "time", time
        largest = max(self.estimates, key=lambda estimate: estimate.bytes)
        enough = f", enough for {largest.fit} arms" if largest.fit < largest.arms else ""
        free = f"{size_text(self.free_bytes)} are free on {self.device}{enough}"
        yield "memory", f"about {size_text(largest.bytes)} beside PyTorch itself; {free}"


def print_lines(lines: Iterable[tuple[str, str]], to_stderr: bool = False) -> None:
    """Print lines, each behind what it is about."""
    for about, line in lines:
        print_line(err if to_stderr else out, f"{about:9} {line}")


def _image_lines(headers: Iterable[Headers]) -> Lines:
    for read in headers:
        yield from (("images", sentence) for sentence in read.sentences())


def headers_of(experiment: Experiment) -> dict[DatasetConfig, Headers]:
    """Return the headers of the images of each image folder that can be scanned."""
    arms = [arm.experiment for arm in experiment.resolved_arms]
    folders = {arm.dataset: arm for arm in arms if arm.dataset.name == "folder"}
    return {
        dataset: inspect_images(dataset_request(arm))
        for dataset, arm in folders.items()
        if dataset.root is not None
    }


def _check_images(checked: Sequence[CheckedStream]) -> None:
    """Decode all images of folders that a run would hold in memory."""
    by_dataset = {stream.experiment.dataset: stream for stream in checked}
    for dataset, stream in by_dataset.items():
        if dataset.name == "folder" and not stream.dataset.streamed:
            images = f"the {stream.dataset.images:,} images of {dataset.root}"
            print_line(err, f"decoding {images}, to check them")
            check_images(dataset_request(stream.experiment))


def stream_lines(stream: CheckedStream, headers: Headers | None) -> Lines:
    """Yield the data, the models and the recipe of arms in lockstep."""
    experiment, dataset = stream.experiment, stream.dataset
    yield "data", _data_text(stream)
    yield from (("", sentence) for sentence in dataset.notes)
    if headers is not None:
        yield from _image_lines([headers])
        yield from (("", sentence) for sentence in headers.misfits(*dataset.size))
    for name, teacher in experiment.named_teachers.items():
        called = f"{name}: " if name in experiment.teachers and name != teacher.model else ""
        recipe = stream.recipes.get(teacher)
        training = f", trained for {recipe.epochs} epochs, or cached" if recipe else ""
        yield "teacher", f"{called}{_model_text(stream, teacher)}{training}"
    students = dict.fromkeys(arm.experiment.student for arm in stream.arms)
    yield "student", "; ".join(_model_text(stream, config) for config in students)
    yield from _download_lines(stream)
    seeds = f"seed{'s' * (len(experiment.seeds) > 1)} {', '.join(map(str, experiment.seeds))}"
    recipes = dict.fromkeys(recipe_text(arm.experiment.training) for arm in stream.arms)
    how = recipes.popitem()[0] if len(recipes) == 1 else f"{len(recipes)} recipes"
    yield "training", f"{how}; {seeds}"


def _data_text(stream: CheckedStream) -> str:
    dataset, experiment = stream.dataset, stream.experiment
    source = " (would be downloaded)" if will_download(experiment, cache_directory()) else ""
    source = " (streamed from the disk)" if dataset.streamed else source
    val = f" + {dataset.val_images:,} validation" if dataset.val_images else ""
    height, width = dataset.size
    classes, size = f"{dataset.num_classes} classes", f"{width}×{height}"
    if experiment.task == "detection":
        request = detection_request(experiment)
        size = min_size_text(usual_sides(request), request.max_size)
    elif dataset_request(experiment).is_split_by_class:
        classes = f"{dataset.train_classes:,} classes to train on, {dataset.test_classes:,} others"
    return (
        f"{experiment.dataset.name}{source}: {dataset.train_images:,} training{val} + "
        f"{dataset.test_images:,} test images, {size}, {dataset.in_channels} "
        f"channel{'s' * (dataset.in_channels > 1)}, {classes}"
        f"{augmentation_text(dataset_request(experiment).augment.used)}"
    )


def _model_text(stream: CheckedStream, config: ModelConfig) -> str:
    """Return a model's parameters, its first weights, and its images if they are its own."""
    checked, images = stream.models[config], stream.models[config].input
    text = f"{config.described}, {count_parameters(checked.model):,} parameters"
    if checked.source is not None:
        text += f", from {checked.source.label}"
    if checked.replaced_head is not None:
        text += f" ({checked.replaced_head})"
    if images.own.size != images.images.size:
        height, width = images.own.size
        text += f", images resampled to {width}×{height}"
    if (images.own.mean, images.own.std) != (images.images.mean, images.images.std):
        mean, std = (", ".join(f"{x:.4g}" for x in xs) for xs in (images.own.mean, images.own.std))
        text += f", normalised with mean {mean} and std {std}"
    return text


def _download_lines(stream: CheckedStream) -> Lines:
    for checked in stream.models.values():
        source = checked.source
        if source is not None and not source.is_here:
            yield "weights", f"{source.label} would be downloaded from {source.origin}"


def _objective_lines(objectives: dict[str, str]) -> Lines:
    """Yield a line for each objective, with the arms that have it."""
    arms: dict[str, list[str]] = {}
    for arm, objective in objectives.items():
        arms.setdefault(objective, []).append(arm)
    for number, (objective, names) in enumerate(arms.items()):
        about = "" if number else "arms"
        if number == MAX_OBJECTIVES:
            yield about, f"… and {len(arms) - number:,} more objectives"
            return
        more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
        yield about, f"{', '.join(names[:MAX_NAMES])}{more}: {objective}"


def span_text(seconds: float) -> str:
    """Return a rough time such as ``40 s``, ``25 min``, ``7.5 h`` or ``12 days``."""
    for unit, length, digits in (("s", 1, 0), ("min", 60, 0), ("h", 3600, 1)):
        if seconds < SPANS[unit]:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds / 86400:.0f} days"


def size_text(count: int) -> str:
    """Return a number of bytes such as ``35 MB`` or ``1.2 GB``."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _stream_json(stream: CheckedStream, estimate: StreamEstimate) -> dict[str, Any]:
    experiment = stream.experiment
    return {
        "arms": [arm.name for arm in stream.arms],
        "objectives": stream.objectives,
        "seeds": list(experiment.seeds),
        "epochs": experiment.training.epochs,
        "batch_size": experiment.training.batch_size,
        "classes": stream.dataset.num_classes,
        "image_shape": [stream.dataset.in_channels, *stream.dataset.size],
        "streamed": stream.dataset.streamed,
        "notes": stream.dataset.notes,
        "needs_download": will_download(experiment, cache_directory()),
        "parameters": stream.parameters,
        **_teachers_json(stream),
        "students": {arm.name: _model_json(stream, arm.experiment.student) for arm in stream.arms},
        "seconds_of_a_seed": estimate.seconds,
        "teacher_seconds": estimate.teacher_seconds,
        "bytes": estimate.bytes,
    }


def _teachers_json(stream: CheckedStream) -> dict[str, Any]:
    """Return the teacher, or the teachers by name."""
    models = {n: _model_json(stream, t) for n, t in stream.experiment.named_teachers.items()}
    return {"teachers": models} if stream.experiment.teachers else models


def _model_json(stream: CheckedStream, config: ModelConfig) -> dict[str, Any]:
    """Return a model's first weights and images."""
    checked, own = stream.models[config], stream.models[config].input.own
    facts: dict[str, Any] = {"model": config.model, "image_size": list(own.size)}
    if checked.source is not None:
        facts["weights"] = {
            "name": checked.source.label,
            "source": checked.source.origin,
            "needs_download": not checked.source.is_here,
        }
    if checked.replaced_head is not None:
        facts["note"] = str(checked.replaced_head)
    return facts
