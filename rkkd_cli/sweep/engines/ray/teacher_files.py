"""A teacher's files as bytes, for workers that do not share this disk."""

import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.images import Dataset
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.obtain import obtain_teacher
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key

Files = Mapping[str, bytes]
CHECKPOINT = "checkpoint"


class TeacherBundle(NamedTuple):
    """A teacher's files, its facts for the manifest, and its fingerprint."""

    files: Files
    facts: dict[str, Any]
    fingerprint: str


def read_teacher_files(experiment: Experiment, dataset: Dataset, folders: list[Path]) -> Files:
    """Return the files of the experiment's teacher from this disk; none if it is not there."""
    if experiment.teacher.checkpoint is not None:
        return {CHECKPOINT: Path(experiment.teacher.checkpoint).expanduser().read_bytes()}
    key = teacher_key(experiment, dataset)
    candidates = (TeacherStore(folder).read_files(key) for folder in folders)
    return next((files for files in candidates if files), {})


def teacher_from_files(
    files: Files, experiment: Experiment, dataset: Dataset, runtime: Runtime
) -> Generator[Event, None, tuple[Teacher, TeacherBundle]]:
    """Return the teacher of the files, or train it if there are none; yields its training."""
    with _written(files, experiment, dataset) as (local_experiment, folder):
        teacher, ready = yield from obtain_teacher(local_experiment, dataset, runtime, folder)
    if not files and ready.cache is not None:
        key = teacher_key(experiment, dataset)
        files = TeacherStore(ready.cache).read_files(key) or {}
    return teacher, TeacherBundle(files, ready.facts, teacher.fingerprint)


@contextmanager
def _written(
    files: Files, experiment: Experiment, dataset: Dataset
) -> Iterator[tuple[Experiment, Path]]:
    """Write the files into a temporary folder; give it, and the experiment with a path in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if CHECKPOINT in files:
            path = folder / CHECKPOINT
            path.write_bytes(files[CHECKPOINT])
            teacher = experiment.teacher.model_copy(update={"checkpoint": str(path)})
            experiment = experiment.model_copy(update={"teacher": teacher})
        elif files:
            TeacherStore(folder).write_files(teacher_key(experiment, dataset), files)
        yield experiment, folder
