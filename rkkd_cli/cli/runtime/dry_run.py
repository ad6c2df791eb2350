"""``rkkd run --dry-run``: check everything, then show the experiment and what would be trained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from rkkd_cli.cli.output.console import err, print_line, print_text
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import to_toml
from rkkd_cli.data.catalogue import check_images, needs_download
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import CheckedStream, check_device, check_experiment, dataset_request
from rkkd_cli.train.device import describe_device, pick_device, use_threads


def print_plan(experiment: Experiment, directory: Path, as_json: bool) -> None:
    """Check the experiment, then print it as TOML and the plan on stderr, or both as JSON."""
    checked = check_experiment(experiment, cache_directory())
    use_threads(experiment.threads)
    device = pick_device(experiment.device)
    check_device(experiment, device)
    device_text = describe_device(device)
    streams = [_describe_stream(stream) for stream in checked]
    _check_images(checked)
    if as_json:
        content = {
            "experiment": experiment.model_dump(mode="json", exclude_none=True),
            "directory": str(directory),
            "device": device_text,
            "streams": streams,
        }
        typer.echo(json.dumps(content))
        return
    print_text(f"{to_toml(experiment)}\n")
    print_line(err, f"would run on {device_text} into {directory}")
    for stream, facts in zip(checked, streams, strict=True):
        for sentence in (*facts["notes"], _stream_sentence(stream.experiment, facts)):
            print_line(err, sentence)
    print_line(err, "dry run: nothing was written")


def _check_images(checked: Sequence[CheckedStream]) -> None:
    """Decode all images of folders that a run would hold in memory."""
    by_dataset = {stream.experiment.dataset: stream for stream in checked}
    for dataset, stream in by_dataset.items():
        if dataset.name == "folder" and not stream.dataset.streamed:
            images = f"the {stream.dataset.images:,} images of {dataset.root}"
            print_line(err, f"decoding {images}, to check them")
            check_images(dataset_request(stream.experiment))


def _describe_stream(stream: CheckedStream) -> dict[str, Any]:
    experiment = stream.experiment
    return {
        "arms": [arm.name for arm in stream.arms],
        "seeds": list(experiment.seeds),
        "epochs": experiment.training.epochs,
        "batch_size": experiment.training.batch_size,
        "classes": stream.dataset.num_classes,
        "image_shape": [stream.dataset.in_channels, *stream.dataset.size],
        "streamed": stream.dataset.streamed,
        "notes": stream.dataset.notes,
        "needs_download": needs_download(dataset_request(experiment), cache_directory()),
        "parameters": stream.parameters,
    }


def _stream_sentence(experiment: Experiment, facts: dict[str, Any]) -> str:
    source = " (would be downloaded)" if facts["needs_download"] else ""
    source = " (streamed from the disk)" if facts["streamed"] else source
    checkpoint = experiment.teacher.checkpoint
    origin = f"from {checkpoint}" if checkpoint else "trained or cached"
    sizes = ", ".join(f"{model} {count:,}" for model, count in facts["parameters"].items())
    return (
        f"{experiment.dataset.name}{source}: arms {', '.join(facts['arms'])} in lockstep for "
        f"{facts['epochs']} epochs at batch size {facts['batch_size']}, seeds "
        f"{', '.join(map(str, facts['seeds']))}; teacher {experiment.teacher.model} {origin}; "
        f"parameters: {sizes}"
    )
