"""The lists of facts of a run: setting, environment, command, files."""

import gzip
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.errors import printable
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.stills import data_uri
from rkkd_cli.report.run_text import dataset_text, teacher_text

COMPRESS_ABOVE = 200_000  # bytes of a file
MAX_BYTES = 1_200_000  # of all files in a page
MEDIA_TYPES = {".csv": "text/csv", ".toml": "application/toml", ".json": "application/json"}


class Fact(NamedTuple):
    """One line of a list of facts."""

    name: str
    text: str


class Download(NamedTuple):
    """A file in the page. One that is too large has no link, and its text says so."""

    name: str
    text: str
    link: str | None


def setting_of(run: PageRun) -> list[Fact]:
    """Return dataset, teacher, student, recipe, method, seeds and arms."""
    experiment = run.experiment
    facts = [Fact("dataset", dataset_text(dataset)) for dataset in run.manifest.datasets]
    facts += [Fact("teacher", teacher_text(teacher)) for teacher in run.manifest.teachers]
    facts += [
        Fact("student", experiment.student.model),
        Fact("training", _recipe_text(experiment.training)),
        Fact("method", _method_text(experiment)),
        Fact("ranking loss", _changes(experiment.rank.model_dump(mode="json", exclude_none=True))),
        Fact("seeds", _join_values(experiment.seeds)),
    ]
    if experiment.vary:
        varied = experiment.vary.items()
        facts += [Fact(f"varied: {key}", _join_values(values)) for key, values in varied]
        facts.append(Fact("arms", f"{len(experiment.arms)} cells and baselines"))
    else:
        facts += [Fact(f"arm {name}", _changes(arm)) for name, arm in experiment.arms.items()]
    return [Fact(printable(fact.name), printable(fact.text)) for fact in facts]


def environment_of(run: PageRun) -> list[Fact]:
    """Return status, device, processor, versions and commit."""
    manifest = run.manifest
    versions = ", ".join(f"{package} {version}" for package, version in manifest.versions.items())
    facts = [
        ("status", run.status), ("started", manifest.started), ("ended", manifest.ended),
        *(("stopped", sentence) for sentence in manifest.stopped), ("reason", manifest.reason),
        ("device", manifest.device), ("processor", manifest.processor),
        ("platform", manifest.platform), ("versions", versions),
        ("commit", manifest.git_commit or "not recorded"),
    ]  # fmt: skip
    return [Fact(name, printable(text)) for name, text in facts if text is not None]


def command_of(run: PageRun) -> str:
    """Return the command that was typed, quoted for a shell."""
    return printable(shlex.join(run.manifest.command))


def downloads_of(run: PageRun, max_bytes: int = MAX_BYTES) -> Iterator[Download]:
    """Yield the run's files, compressed if large; those above ``max_bytes`` without a link."""
    for name, content in run.files.items():
        saved_as = printable(f"{run.name}-{name}")
        media_type = MEDIA_TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        if len(content) > COMPRESS_ABOVE:
            content = gzip.compress(content, mtime=0)
            saved_as, media_type = f"{saved_as}.gz", "application/gzip"
        text = f"{saved_as} ({len(content) / 1000:,.0f} kB)"
        if len(content) > max_bytes:
            text += " is too large for this page: see the run's folder"
            yield Download(saved_as, text, None)
        else:
            yield Download(saved_as, text, data_uri(content, media_type))


def _recipe_text(training: TrainingConfig) -> str:
    text = (
        f"{training.epochs} epochs, batches of {training.batch_size}, {training.optimizer}, "
        f"learning rate {training.lr:g}, momentum {training.momentum:g}, weight decay "
        f"{training.weight_decay:g}, schedule {training.schedule}"
    )
    if training.schedule == "step":
        text += f" × {training.gamma:g} at {_join_values(training.milestones)}"
    return text


def _method_text(experiment: Experiment) -> str:
    table = experiment.method.model_dump(mode="json", exclude_none=True)
    name = str(table.pop("name"))
    scalars = {k: v for k, v in table.items() if isinstance(v, int | float | str)}
    return ", ".join([name, *(f"{key} = {_value_text(v)}" for key, v in scalars.items())])


def _changes(arm: Any, prefix: str = "") -> str:
    table = arm if isinstance(arm, dict) else arm.model_dump(exclude_none=True)
    changes = [
        _changes(value, f"{prefix}{key}.")
        if isinstance(value, dict)
        else f"{prefix}{key} = {_value_text(value)}"
        for key, value in table.items()
    ]
    return ", ".join(changes) or "the base experiment"


def _value_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _join_values(values: Any) -> str:
    return ", ".join(_value_text(value) for value in values)
