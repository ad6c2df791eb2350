"""``manifest.json``: the environment and the status of a run, with a checksum of its own."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import UserError

ALLOW_EXTRA = ConfigDict(extra="allow", ser_json_inf_nan="constants")
# Of a run's folder: raise it when files change such that older versions would misread them.
RUN_FORMAT = 1
ENDED_STATUSES = ("finished", "incomplete")


@with_config(ALLOW_EXTRA)
class DatasetFacts(TypedDict):
    """The facts of a dataset that are shown; the manifest has more."""

    name: str
    train_images: int
    val_images: int
    test_images: int
    classes: int
    image_shape: NotRequired[list[int]]
    fingerprint: str


@with_config(ALLOW_EXTRA)
class TeacherFacts(TypedDict):
    """The facts of a teacher that are shown; the manifest has more.

    It has the task's metrics on the test images: ``test_acc``, or ``test_map_at_r`` and others.
    """

    model: str
    source: str
    test_acc: NotRequired[float]
    parameters: int
    sha256: str


def teacher_name(facts: TeacherFacts) -> str:
    """Return what a teacher is called: one of several by its name, one alone by its model."""
    return str(cast(dict[str, Any], facts).get("name", facts["model"]))


def teacher_metric(facts: Mapping[str, Any], column: str | None = None) -> float:
    """Return a teacher's metric on the test images, in percent; default: its task's main one."""
    return float(facts[column or task_of(facts).main_column])


@with_config(ALLOW_EXTRA)
class StudentCost(TypedDict):
    """What inference with an arm's student costs: see rkkd_cli/train/cost.py."""

    parameters: int
    macs: int
    projector_parameters: int
    projector_macs: int
    training_parameters: int


@with_config(ALLOW_EXTRA)
class FailedJob(TypedDict):
    """A job that was given up: the arms of one seed."""

    stream: str
    seed: int
    arms: list[str]
    reason: str


@with_config(ALLOW_EXTRA)
class EarlyEnd(TypedDict):
    """An arm stopped early after ``epoch``: ``monitor`` did not improve on ``best_epoch``."""

    arm: str
    seed: int
    epoch: int
    monitor: str
    best: float
    best_epoch: int


class NewerRunError(UserError):
    """The run was written by a newer rkkd, in a format that this one cannot know."""


class Manifest(BaseModel):
    """The status of a run, and what its numbers depend on besides the experiment.

    - ``format`` is that of all files of the run: see RUN_FORMAT and docs/formats.md.
    - ``id`` is random, so that checkpoints of one run are not mistaken for another's.
    - ``status`` is ``running`` while the run trains; ``finished`` when all arms reached their last
      epoch; ``incomplete`` when an arm stopped before; ``interrupted`` after a signal; ``failed``
      with a ``reason``. A run whose process died stays ``running``; its lock shows the difference.
    - ``stopped`` has a sentence for each arm that diverged and each job that was given up;
      ``diverged`` lists the former as (arm, seed), ``failed`` the latter.
    - ``ended_early`` lists arms that training.patience stopped, which is a normal end.
    - ``monitors`` has the metric that selects an arm's epoch, for arms with one.
    - ``numbers_version`` is that of the training code: see NUMBERS_VERSION in config.
    - ``students`` has each arm's parameters and multiply-adds, its first ``weights`` (name, source,
      SHA-256) if it names some, and its ``input`` if that is not the dataset's images. So have
      ``teachers``.
    - ``objectives`` has what each arm optimises, such as ``0.1·ce + 0.9·kl``. A run of an older
      version has neither.
    - ``code`` has the SHA-256 of each file of the user's own code, whose copies are in ``code/``.
    - ``warnings`` are sentences about what makes the numbers doubtful.
    - ``ranks`` counts the processes that share each batch; ``launch`` is the torchrun launch that
      started them.
    - ``metrics_sha256`` is the hash of metrics.csv (with ``\\n`` line ends) at the run's end.
    """

    model_config = ALLOW_EXTRA

    format: int = 1
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
    objectives: dict[str, str] = Field(default_factory=dict)
    code: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
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

    @property
    def cells_ended_early(self) -> set[tuple[str, int]]:
        """The (arm, seed) that training.patience stopped."""
        return {(end["arm"], end["seed"]) for end in self.ended_early}

    @property
    def notes(self) -> list[str]:
        """What is to be known about the images and the teachers, as sentences."""
        entries = [cast(dict[str, Any], facts) for facts in (*self.datasets, *self.teachers)]
        notes = (str(note) for facts in entries for note in facts.get("notes", ()))
        return list(dict.fromkeys(notes))


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as JSON, with a checksum of its content at the end."""
    content = manifest.model_dump(mode="json")
    content.pop("checksum", None)
    content["checksum"] = _checksum(content)
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """Return the manifest in ``text``.

    Raises UserError that says how it is damaged, NewerRunError for one of a newer format.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from None
    if not isinstance(content, dict) or "checksum" not in content:
        raise UserError(f"{where} is damaged: it is no manifest of a run")
    written = content.get("format")
    if isinstance(written, int) and written > RUN_FORMAT:
        raise NewerRunError(
            f"{where} was written by a newer rkkd (format {written}, here {RUN_FORMAT}); use that "
            "version or a later one"
        )
    if content.pop("checksum") != _checksum(content):
        raise UserError(f"{where} is damaged: its content does not fit its checksum")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where} is damaged: {key}: {first['msg']}") from None


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
