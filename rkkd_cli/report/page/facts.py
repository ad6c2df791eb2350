"""What stands beside the numbers of a run: setting, environment, commands, files."""

import gzip
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.errors import printable
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.stills import data_uri

LARGE, MOST = 200_000, 1_200_000  # bytes of a file that is packed, and of all files of a page
KINDS = {".csv": "text/csv", ".toml": "application/toml", ".json": "application/json"}


class Fact(NamedTuple):
    """One line of a list of facts."""

    name: str
    text: str


class Download(NamedTuple):
    """A file in the page; without a link it was too large, and the text says so."""

    name: str
    text: str
    link: str | None


def setting_of(run: PageRun) -> list[Fact]:
    """Return dataset, teacher, student, recipe, method, seeds and arms."""
    experiment = run.experiment
    facts = [Fact("dataset", _dataset(one)) for one in run.manifest.datasets]
    facts += [Fact("teacher", _teacher(one)) for one in run.manifest.teachers]
    facts.append(Fact("student", experiment.student.model))
    facts.append(Fact("training", _recipe(experiment.training)))
    facts.append(Fact("method", _method(experiment)))
    facts.append(Fact("ranking loss", _ranking(experiment)))
    facts.append(Fact("seeds", ", ".join(str(seed) for seed in experiment.seeds)))
    if experiment.vary:
        facts += [Fact(f"varied: {key}", _list(values)) for key, values in experiment.vary.items()]
        facts.append(Fact("arms", f"{len(experiment.arms)} cells and baselines"))
    else:
        facts += [Fact(f"arm {name}", _changes(arm)) for name, arm in experiment.arms.items()]
    return [Fact(printable(one.name), printable(one.text)) for one in facts]


def environment_of(run: PageRun) -> list[Fact]:
    """Return status, device, processor, versions and commit."""
    manifest = run.manifest
    facts = [Fact("status", run.status), Fact("started", manifest.started)]
    facts += [Fact("ended", manifest.ended)] if manifest.ended else []
    facts += [Fact("stopped", sentence) for sentence in manifest.stopped]
    facts += [Fact("reason", manifest.reason)] if manifest.reason else []
    facts += [
        Fact("device", manifest.device),
        Fact("processor", manifest.processor),
        Fact("platform", manifest.platform),
        Fact("versions", ", ".join(f"{name} {one}" for name, one in manifest.versions.items())),
        Fact("commit", manifest.git_commit or "not recorded"),
    ]
    return [Fact(one.name, printable(one.text)) for one in facts]


def command_of(run: PageRun) -> str:
    """Return the command that was typed, as a shell takes it."""
    return printable(shlex.join(run.manifest.command))


def downloads_of(run: PageRun, most: int = MOST) -> Iterator[Download]:
    """Yield the run's files: as they are, packed where large, left out where larger."""
    for name, content in run.files.items():
        saved = printable(f"{run.name}-{name}")
        kind = KINDS.get(name[name.rfind(".") :], "application/octet-stream")
        if len(content) > LARGE:
            content = gzip.compress(content, mtime=0)
            saved, kind = f"{saved}.gz", "application/gzip"
        size = f"{len(content) / 1000:,.0f} kB"
        if len(content) > most:
            too_large = f"{saved} ({size}) is too large for this page: see the run's folder"
            yield Download(saved, too_large, None)
        else:
            yield Download(saved, f"{saved} ({size})", data_uri(content, kind))


def _dataset(facts: Any) -> str:
    channels, height, width = facts["image_shape"]
    val = f" + {facts['val_images']:,} validation" if facts["val_images"] else ""
    return (
        f"{facts['name']}: {facts['train_images']:,} training{val} + {facts['test_images']:,} test "
        f"images, {facts['classes']} classes, {channels}×{height}×{width}"
    )


def _teacher(facts: Any) -> str:
    return (
        f"{facts['model']} ({facts['source']}): {facts['test_acc']:.2f} % test accuracy, "
        f"{facts['parameters']:,} parameters, sha256 {facts['sha256'][:16]}…"
    )


def _recipe(one: TrainingConfig) -> str:
    text = (
        f"{one.epochs} epochs, batches of {one.batch_size}, {one.optimizer}, learning rate "
        f"{one.lr:g}, momentum {one.momentum:g}, weight decay {one.weight_decay:g}, "
        f"schedule {one.schedule}"
    )
    if one.schedule == "step":
        text += f" × {one.gamma:g} at {_list(one.milestones)}"
    return text


def _method(experiment: Experiment) -> str:
    table = experiment.method.model_dump(mode="json", exclude_none=True)
    name = str(table.pop("name"))
    scalars = {k: v for k, v in table.items() if isinstance(v, int | float | str)}
    return ", ".join([name, *(f"{key} = {_value(value)}" for key, value in scalars.items())])


def _ranking(experiment: Experiment) -> str:
    table = experiment.rank.model_dump(mode="json", exclude_none=True)
    return ", ".join(f"{key} = {_value(value)}" for key, value in table.items())


def _changes(arm: Any, prefix: str = "") -> str:
    table = arm if isinstance(arm, dict) else arm.model_dump(exclude_none=True)
    parts = [
        _changes(value, f"{prefix}{key}.")
        if isinstance(value, dict)
        else f"{prefix}{key} = {_value(value)}"
        for key, value in table.items()
    ]
    return ", ".join(parts) or "the base experiment"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(values: Any) -> str:
    return ", ".join(_value(one) for one in values)
