"""A worker on a Ray cluster. Needs no disk in common with the process that records."""

from collections.abc import Generator, Iterator, Mapping

import torch

import rkkd_cli
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.engines.local import run_job
from rkkd_cli.sweep.engines.ray.teacher_files import Files, TeacherBundle, teacher_from
from rkkd_cli.sweep.engines.worker import (
    Message,
    WorkerOptions,
    check_sources,
    deserialize_state,
    messages,
    result_of,
)
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.jobs import Job, SourcesKey, sources_key
from rkkd_cli.sweep.sources import Sources, make_sources
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController


class RayWorker:
    """The body of an actor: it trains one thing at a time, while :meth:`stop` may be called."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self.versions = versions
        self.controller: StopController | None = None
        self.is_stopping = False
        self.sources: dict[SourcesKey, Sources] = {}

    def free_memory(self, device: str) -> int:
        """Return the free bytes where the arms will be. Raises RunError for other versions."""
        check_versions(self.versions)
        return free_memory(pick_device(device))

    def teach(
        self, options: WorkerOptions, experiment: Experiment, dataset: Dataset, files: Files
    ) -> Iterator[Message]:
        """Make sure of the teacher: train it where there are no files of one."""
        controller = self._new_controller(options)
        yield from messages(self._teach(options, controller, experiment, dataset, files))

    def train(
        self,
        options: WorkerOptions,
        job: Job,
        state: bytes | None,
        dataset: Dataset,
        teacher: TeacherBundle,
    ) -> Iterator[Message]:
        """Train the job from its state."""
        controller = self._new_controller(options)
        yield from messages(self._train(options, controller, job, state, dataset, teacher))

    def stop(self) -> None:
        """Let what is being trained leave off after its step and a checkpoint."""
        self.is_stopping = True
        if self.controller is not None:
            self.controller.stop_requested = True

    def _new_controller(self, options: WorkerOptions) -> StopController:
        self.controller = StopController(options.minutes)
        self.controller.stop_requested = self.is_stopping  # it may have been said before this began
        return self.controller

    def _teach(
        self,
        options: WorkerOptions,
        controller: StopController,
        experiment: Experiment,
        dataset: Dataset,
        files: Files,
    ) -> Generator[Event, None, TeacherBundle]:
        check_versions(self.versions)
        check_images_here(dataset)
        runtime = Runtime(options.apply(), cache_directory(), controller)
        _, bundle = yield from teacher_from(files, experiment, dataset, runtime)
        return bundle

    def _train(
        self,
        options: WorkerOptions,
        controller: StopController,
        job: Job,
        state: bytes | None,
        dataset: Dataset,
        bundle: TeacherBundle,
    ) -> Generator[Event, None, None]:
        check_versions(self.versions)
        runtime = Runtime(options.apply(), cache_directory(), controller)
        key = sources_key(job.experiment)
        if key not in self.sources:
            self.sources.clear()
            check_images_here(dataset)
            found = teacher_from(bundle.files, job.experiment, dataset, runtime)
            teacher, same = result_of(found)
            check_sources({"teacher": same.fingerprint}, {"teacher": bundle.fingerprint})
            self.sources[key] = make_sources(dataset, teacher)
        here = None if state is None else deserialize_state(state)
        yield from run_job(job, self.sources[key], here, runtime)


def check_images_here(dataset: Dataset) -> None:
    """Raise RunError where this node's disk has not the images of a dataset that is streamed.

    Images in memory come with the dataset; of streamed ones only the list does.
    """
    for split in (dataset.train, dataset.test, dataset.val):
        if not isinstance(split, ListedImages):
            continue
        reason = ""
        try:
            is_here = split.fingerprint_now() == split.fingerprint
        except UserError as error:
            is_here, reason = False, f" ({error})"
        if not is_here:
            raise RunError(
                f"a node of the cluster has other images in {split.files.root}{reason}; a streamed "
                "folder must lie at the same place on every node, or be held in memory with "
                "--no-stream"
            )


def versions() -> dict[str, str]:
    """Return what must be the same everywhere for the rows to be those of one process."""
    return {
        "rkkd": rkkd_cli.__version__,
        "rkkd's numbers": str(NUMBERS_VERSION),
        "PyTorch": str(torch.__version__),
    }


def check_versions(expected: Mapping[str, str]) -> None:
    """Raise RunError unless this machine has the versions of the one that records."""
    other = [
        f"{name} {here} instead of {expected[name]}"
        for name, here in versions().items()
        if here != expected[name]
    ]
    if other:
        raise RunError(
            f"a node of the cluster has {', '.join(other)}; install the same versions on all nodes"
        )
