"""A teacher on its way to a worker without the same disk, and back: its files as bytes."""

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
    """A teacher: its files, what the manifest says of it, and what tells it from others."""

    files: Files
    facts: dict[str, Any]
    fingerprint: str


def files_here(experiment: Experiment, dataset: Dataset, stores: list[Path]) -> Files:
    """Return the files of the experiment's teacher that are on this disk; none if there is none."""
    if experiment.teacher.checkpoint is not None:
        return {CHECKPOINT: Path(experiment.teacher.checkpoint).expanduser().read_bytes()}
    key = teacher_key(experiment, dataset)
    found = (TeacherStore(folder).entry(key) for folder in stores)
    return next((files for files in found if files), {})


def teacher_from(
    files: Files, experiment: Experiment, dataset: Dataset, runtime: Runtime
) -> Generator[Event, None, tuple[Teacher, TeacherBundle]]:
    """Return the teacher of the files, or train it where there are none; yields its training."""
    with _unpacked(files, experiment, dataset) as (here, kept):
        teacher, ready = yield from obtain_teacher(here, dataset, runtime, kept)
    if not files and ready.cache is not None:
        files = TeacherStore(ready.cache).entry(teacher_key(experiment, dataset)) or {}
    return teacher, TeacherBundle(files, ready.facts, teacher.fingerprint)


@contextmanager
def _unpacked(
    files: Files, experiment: Experiment, dataset: Dataset
) -> Iterator[tuple[Experiment, Path]]:
    """Give the experiment and the folder in which its teacher is found."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if CHECKPOINT in files:
            path = place / CHECKPOINT
            path.write_bytes(files[CHECKPOINT])
            teacher = experiment.teacher.model_copy(update={"checkpoint": str(path)})
            experiment = experiment.model_copy(update={"teacher": teacher})
        elif files:
            TeacherStore(place).put(teacher_key(experiment, dataset), files)
        yield experiment, place
