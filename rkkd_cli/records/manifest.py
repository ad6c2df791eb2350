"""``manifest.json``: what a run was made with, and how it stands. Carries its own checksum."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from rkkd_cli.errors import UserError

OPEN = ConfigDict(extra="allow", ser_json_inf_nan="constants")
ENDED = ("finished", "incomplete")


@with_config(OPEN)
class DatasetFacts(TypedDict):
    """What is shown of a dataset; there is more beside it."""

    name: str
    train_images: int
    val_images: int
    test_images: int
    classes: int
    image_shape: list[int]
    fingerprint: str


@with_config(OPEN)
class TeacherFacts(TypedDict):
    """What is shown of a teacher; there is more beside it."""

    model: str
    source: str
    test_acc: float
    parameters: int
    sha256: str


@with_config(OPEN)
class StudentCost(TypedDict):
    """What an arm's student costs when it is used: see rkkd_cli/train/cost.py."""

    parameters: int
    macs: int
    projector_parameters: int
    projector_macs: int
    training_parameters: int


@with_config(OPEN)
class FailedJob(TypedDict):
    """A job that was given up: its cells are the arms with the seed."""

    stream: str
    seed: int
    arms: list[str]
    reason: str


@with_config(OPEN)
class EarlyEnd(TypedDict):
    """An arm that ended after ``epoch``, since ``monitor`` got no better than at ``best_epoch``."""

    arm: str
    seed: int
    epoch: int
    monitor: str
    best: float
    best_epoch: int


class Manifest(BaseModel):
    """How a run stands and what its numbers depend on beside the experiment.

    ``id`` is drawn once, so that checkpoints of another run are not taken for this one's.
    ``status`` is ``running`` from the start to the end; ``finished``: all arms reached their last
    epoch; ``incomplete``: an arm stopped before; ``interrupted`` by a signal; ``failed`` for
    ``reason``. A run whose process died keeps ``running``: whether it lives, its lock tells.
    ``stopped`` says it in words: which arms had to be dropped and which jobs given up; ``diverged``
    are the former as (arm, seed), ``failed`` the latter.
    ``ended_early`` are arms that training.patience let go: a normal end. ``monitors`` has the
    metric by which an arm's epoch is chosen, for the arms that have one.
    ``numbers_version`` is that of the training code: see NUMBERS_VERSION in config.
    ``students`` has each arm's parameters and multiply-adds.
    ``ranks`` are the processes that shared each batch, ``launch`` the torchrun that started them.
    ``metrics_sha256`` is that of metrics.csv (with ``\\n`` as line ends) at the run's end.
    """

    model_config = OPEN

    run: str
    id: str = ""
    status: Literal["running", "finished", "incomplete", "failed", "interrupted"]
    started: str
    ended: str | None = None
    reason: str | None = None
    command: list[str]
    device: str
    threads: int
    ranks: int = 1
    launch: str | None = None
    process: int | None = None
    resumed: list[dict[str, Any]] = Field(default_factory=list)
    datasets: list[DatasetFacts] = Field(default_factory=list)
    teachers: list[TeacherFacts] = Field(default_factory=list)
    students: dict[str, StudentCost] = Field(default_factory=dict)
    stopped: list[str] = Field(default_factory=list)
    failed: list[FailedJob] = Field(default_factory=list)
    diverged: list[tuple[str, int]] = Field(default_factory=list)
    ended_early: list[EarlyEnd] = Field(default_factory=list)
    monitors: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str]
    numbers_version: int = 1
    platform: str
    processor: str
    git_commit: str | None
    metrics_sha256: str | None = None


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as JSON, with a checksum of all the rest at its end."""
    content = manifest.model_dump(mode="json")
    content.pop("checksum", None)
    return _json(content | {"checksum": _checksum(content)})


def parse_manifest(text: str, where: str) -> Manifest:
    """Return the manifest that ``text`` holds. Raises UserError that says how it is damaged."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from None
    if not isinstance(content, dict) or "checksum" not in content:
        raise UserError(f"{where} is damaged: it is no manifest of a run")
    if content.pop("checksum") != _checksum(content):
        raise UserError(f"{where} is damaged: its content does not fit its checksum")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where} is damaged: {key}: {first['msg']}") from None


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
