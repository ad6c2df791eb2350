"""A worker on a Ray cluster. It need not share a disk with the process that records."""

from collections.abc import Generator, Iterator, Mapping

import torch

import rkkd_cli
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.engines.local import run_job
from rkkd_cli.sweep.engines.ray.teacher_files import Files, TeacherBundle, teacher_from_files
from rkkd_cli.sweep.engines.worker import (
    Message,
    WorkerOptions,
    check_sources,
    deserialize_state,
    drain,
    messages,
)
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.jobs import Job, SourcesKey, sources_key
from rkkd_cli.sweep.sources import Sources, make_sources
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.several import teachers_by_name


class RayWorker:
    """The body of an actor. It does one task at a time; :meth:`stop` may be called meanwhile."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self.versions = versions
        self.controller: StopController | None = None
        self.is_stopping = False
        self.sources: dict[SourcesKey, Sources] = {}

    def free_memory(self, device: str) -> int:
        """Return the free bytes where the arms will be. Raises RunError for other versions."""
        check_versions(self.versions)
        return free_memory(pick_device(device))

    def obtain_teacher(
        self, options: WorkerOptions, experiment: Experiment, dataset: Dataset, files: Files
    ) -> Iterator[Message]:
        """Load the teacher, or train it if it has no files. The result is its bundle."""
        yield from messages(self._obtain_teacher(options, experiment, dataset, files))

    def train(
        self,
        options: WorkerOptions,
        job: Job,
        state: bytes | None,
        dataset: Dataset,
        teachers: Mapping[str, TeacherBundle],
    ) -> Iterator[Message]:
        """Train the job from its serialised state."""
        yield from messages(self._train(options, job, state, dataset, teachers))

    def stop(self) -> None:
        """Stop the task after its current step and a checkpoint."""
        self.is_stopping = True
        if self.controller is not None:
            self.controller.stop_requested = True

    def _start_task(self, options: WorkerOptions) -> Runtime:
        """Set up this process for a task. Raises RunError for other versions."""
        self.controller = StopController(options.minutes)
        self.controller.stop_requested = self.is_stopping  # the request may have come before
        check_versions(self.versions)
        return Runtime(options.apply(), cache_directory(), self.controller)

    def _obtain_teacher(
        self, options: WorkerOptions, experiment: Experiment, dataset: Dataset, files: Files
    ) -> Generator[Event, None, TeacherBundle]:
        runtime = self._start_task(options)
        check_images_here(dataset)
        _, bundle = yield from teacher_from_files(files, experiment, dataset, runtime)
        return bundle

    def _train(
        self,
        options: WorkerOptions,
        job: Job,
        state: bytes | None,
        dataset: Dataset,
        bundles: Mapping[str, TeacherBundle],
    ) -> Generator[Event, None, None]:
        runtime = self._start_task(options)
        key = sources_key(job.experiment)
        if key not in self.sources:
            self.sources.clear()
            check_images_here(dataset)
            teachers = {}
            for name, bundle in bundles.items():
                alone = job.experiment.taught_by(name)
                teacher, own_bundle = drain(
                    teacher_from_files(bundle.files, alone, dataset, runtime)
                )
                check_sources({"teacher": own_bundle.fingerprint}, {"teacher": bundle.fingerprint})
                teachers[name] = teacher
            self.sources[key] = make_sources(dataset, teachers_by_name(teachers))
        yield from run_job(
            job, self.sources[key], None if state is None else deserialize_state(state), runtime
        )


def check_images_here(dataset: Dataset) -> None:
    """Raise RunError if this node's disk lacks the images of a streamed dataset.

    A dataset in memory comes with its images, a streamed one only with their list.
    """
    for split in (dataset.train, dataset.test, dataset.val):
        if not isinstance(split, StreamedSplit):
            continue
        reason = ""
        try:
            is_here = split.compute_fingerprint() == split.fingerprint
        except UserError as error:
            is_here, reason = False, f" ({error})"
        if not is_here:
            raise RunError(
                f"a node of the cluster has other images in {split.files.root}{reason}; a streamed "
                "folder must lie at the same place on every node, or be held in memory with "
                "--no-stream"
            )


def versions() -> dict[str, str]:
    """Return the versions that determine a run's numbers."""
    return {
        "rkkd": rkkd_cli.__version__,
        "rkkd's numbers": str(NUMBERS_VERSION),
        "PyTorch": str(torch.__version__),
    }


def check_versions(expected: Mapping[str, str]) -> None:
    """Raise RunError unless this machine has the versions of the one that records."""
    differences = [
        f"{name} {version} instead of {expected[name]}"
        for name, version in versions().items()
        if version != expected[name]
    ]
    if differences:
        raise RunError(
            f"a node of the cluster has {', '.join(differences)}; install the same versions on all "
            "nodes"
        )
