"""Runs jobs on several ranks: the first one is the program, the others do what it has to do."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rkkd_cli.config.arms import resolve_arms
from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.errors import UserError
from rkkd_cli.methods import method_class
from rkkd_cli.sweep.engines.local import Engine, run_jobs
from rkkd_cli.sweep.engines.worker import WorkerOptions
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank
from rkkd_cli.train.events import Event
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped


@dataclass(frozen=True)
class Work:
    """What all ranks do, each its part of it. Without jobs only the teacher is trained."""

    begun: Begun
    jobs: tuple[Job, ...] | None
    settings: WorkerOptions

    def share(self, process_group: TorchrunGroup) -> None:
        """Let the other ranks begin it too."""
        process_group.send(self.settings.device)
        process_group.init(self.settings.device)
        process_group.broadcast(self)

    def events(
        self,
        device: torch.device,
        cache: Path,
        controller: StopController,
        process_group: TorchrunGroup,
    ) -> Iterator[Event]:
        """Yield what happens on this rank."""
        if self.jobs is None:
            return prepare_teacher(self.begun.experiment, device, cache, controller, process_group)
        return run_jobs(
            self.begun, device, cache, controller, self.jobs, process_group=process_group
        )


def check_ranks(experiment: Experiment, count: int) -> None:
    """Raise UserError where so many ranks cannot share the experiment's batches."""
    if experiment.sync_batchnorm and experiment.stacked:
        raise UserError("stacked arms have no sync_batchnorm; leave one of the two away")
    if experiment.cache_teacher != "off":
        raise UserError("several ranks keep no teacher's logits; leave out --cache-teacher")
    if experiment.cuda_graph:
        raise UserError("several ranks record no CUDA graph; leave out --cuda-graph")
    for arm in resolve_arms(experiment):
        own = arm.experiment
        recipes: dict[str, TrainingConfig] = {"training": own.training}
        if own.teacher.checkpoint is None and own.teacher.training is not None:
            recipes["teacher.training"] = own.teacher.training
        for section, recipe in recipes.items():
            if recipe.batch_size < count:
                raise UserError(
                    f"{section}.batch_size = {recipe.batch_size} is shared by all ranks, and there "
                    f"are {count}; raise it, or start fewer"
                )
        if method_class(own.method.name).keeps_memory:
            raise UserError(
                f"arm {arm.name}: method {own.method.name} keeps a memory of all training images, "
                "which several ranks cannot share; train it without torchrun"
            )


def on_ranks(process_group: TorchrunGroup) -> Engine:
    """Return the first rank's engine: it lets the others in on each thing that it does."""

    def engine(
        begun: Begun,
        device: torch.device,
        cache: Path,
        controller: StopController,
        jobs: Sequence[Job],
    ) -> Iterator[Event]:
        work = Work(begun, tuple(jobs), _settings(begun.experiment, device, controller))
        work.share(process_group)
        yield from work.events(device, cache, controller, process_group)

    return engine


def prepare_on_ranks(
    experiment: Experiment,
    device: torch.device,
    cache: Path,
    controller: StopController,
    process_group: TorchrunGroup,
) -> Iterator[Event]:
    """Let all ranks train the experiment's teacher; the first one caches it."""
    work = Work(Begun(experiment), None, _settings(experiment, device, controller))
    work.share(process_group)
    yield from work.events(device, cache, controller, process_group)


def _settings(
    experiment: Experiment, device: torch.device, controller: StopController
) -> WorkerOptions:
    threads = torch.get_num_threads()
    return WorkerOptions(device.type, threads, experiment.deterministic, controller.minutes)


def follow(process_group: TorchrunGroup, cache: Path, controller: SharedStopController) -> None:
    """Do what the first rank does, and record nothing, until it ends.

    Raises Dismissed at that end, and whatever the work raises.
    """
    while True:
        kind = process_group.receive()
        own = str(device_of_rank(kind, os.environ))
        process_group.init(kind)
        work = process_group.broadcast(None)
        assert isinstance(work, Work)
        device = replace(work.settings, device=own).apply()
        with suppress(Stopped):
            for _ in work.events(device, cache, controller, process_group):
                pass
        process_group.destroy()
