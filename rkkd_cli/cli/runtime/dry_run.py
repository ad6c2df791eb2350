"""``--dry-run``: the resolved experiment and what would run, after every check."""

import json
from pathlib import Path
from typing import Any

import typer

from rkkd_cli.cli.output.console import err
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import to_toml
from rkkd_cli.data.catalogue import needs_download
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import CheckedStream, check_device, check_experiment, dataset_request
from rkkd_cli.train.device import describe_device, pick_device, use_threads


def print_plan(experiment: Experiment, directory: Path, as_json: bool) -> None:
    """Check the experiment, then print it as TOML and the plan on stderr, or both as JSON."""
    checked = check_experiment(experiment, cache_directory())
    use_threads(experiment.threads)
    chosen = pick_device(experiment.device)
    check_device(experiment, chosen)
    device = describe_device(chosen)
    if as_json:
        streams = [_stream(one) for one in checked]
        typer.echo(
            json.dumps(
                {
                    "experiment": experiment.model_dump(mode="json", exclude_none=True),
                    "directory": str(directory),
                    "device": device,
                    "streams": streams,
                }
            )
        )
        return
    typer.echo(to_toml(experiment))
    err.print(f"would run on {device} into {directory}", markup=False, highlight=False)
    for one in checked:
        err.print(_sentence(one), markup=False, highlight=False, soft_wrap=True)
    err.print("dry run: nothing was written", markup=False)


def _stream(checked: CheckedStream) -> dict[str, Any]:
    shared = checked.experiment
    return {
        "arms": [arm.name for arm in checked.arms],
        "seeds": list(checked.experiment.seeds),
        "epochs": shared.training.epochs,
        "batch_size": shared.training.batch_size,
        "classes": checked.shape.num_classes,
        "image_shape": [checked.shape.in_channels, *checked.shape.size],
        "streamed": checked.shape.streamed,
        "needs_download": _needs_download(shared),
        "parameters": checked.parameters,
    }


def _needs_download(experiment: Experiment) -> bool:
    return needs_download(dataset_request(experiment), cache_directory())


def _sentence(checked: CheckedStream) -> str:
    plan = _stream(checked)
    experiment = checked.experiment
    sizes = ", ".join(f"{name} {count:,}" for name, count in checked.parameters.items())
    fetch = " (would be downloaded)" if plan["needs_download"] else ""
    fetch = " (streamed from the disk)" if plan["streamed"] else fetch
    origin = (
        f"from {experiment.teacher.checkpoint}"
        if experiment.teacher.checkpoint
        else "trained or cached"
    )
    return (
        f"{experiment.dataset.name}{fetch}: arms {', '.join(plan['arms'])} in lockstep for "
        f"{plan['epochs']} epochs at batch {plan['batch_size']}, seeds "
        f"{', '.join(map(str, plan['seeds']))}; teacher {experiment.teacher.model} {origin}; "
        f"parameters: {sizes}"
    )
