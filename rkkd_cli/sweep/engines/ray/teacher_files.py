"""A teacher's files as bytes, for workers that do not share this disk."""

import json
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.on_device import AnyDataset
from rkkd_cli.train.configured_model import weights_source
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.obtain import obtain_teacher
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key

Files = Mapping[str, bytes]
WEIGHTS = "weights"


class TeacherBundle(NamedTuple):
    """A teacher's files, its facts for the manifest, and its fingerprint."""

    files: Files
    facts: dict[str, Any]
    fingerprint: str


def read_teacher_files(experiment: Experiment, dataset: AnyDataset, folders: list[Path]) -> Files:
    """Return the files of the experiment's teacher from this disk.

    They are its first weights, if it names a file, and what its training left, if that is there.
    """
    source = weights_source(experiment.teacher)
    is_file = source is not None and source.published is None
    weights = {WEIGHTS: source.path.read_bytes()} if source and is_file else {}
    if experiment.teacher.training is None:
        return weights
    key = teacher_key(experiment, dataset)
    candidates = (TeacherStore(folder).read_files(key) for folder in folders)
    return weights | next((files for files in candidates if files), {})


def teacher_from_files(
    files: Files, experiment: Experiment, dataset: AnyDataset, runtime: Runtime
) -> Generator[Event, None, tuple[Teacher, TeacherBundle]]:
    """Return the teacher of the files, or train it if there are none; yields its training."""
    with _written(files, experiment, dataset) as (local, folder):
        teacher, ready = yield from obtain_teacher(local, dataset, runtime, folder)
    if "key" in ready.facts and ready.cache is not None and ready.cache != folder:
        files = {**files, **(TeacherStore(ready.cache).read_files(ready.facts["key"]) or {})}
    facts = _renamed(ready.facts, local.teacher.weights, experiment.teacher.weights)
    return teacher, TeacherBundle(files, facts, teacher.fingerprint)


def _renamed(facts: dict[str, Any], local: str | None, name: str | None) -> dict[str, Any]:
    """Return the facts with the experiment's name of the weights instead of that of the copy."""
    if local is None or name is None or local == name:
        return facts
    renamed: dict[str, Any] = json.loads(json.dumps(facts).replace(local, name))
    return renamed


@contextmanager
def _written(
    files: Files, experiment: Experiment, dataset: AnyDataset
) -> Iterator[tuple[Experiment, Path]]:
    """Write the files into a temporary folder; give it, and the experiment with a path in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if WEIGHTS in files:
            path = folder / WEIGHTS
            path.write_bytes(files[WEIGHTS])
            teacher = experiment.teacher.model_copy(update={"weights": str(path)})
            experiment = experiment.model_copy(update={"teacher": teacher})
        if files.keys() - {WEIGHTS}:
            TeacherStore(folder).write_files(teacher_key(experiment, dataset), files)
        yield experiment, folder
