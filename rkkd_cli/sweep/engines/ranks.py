"""Runs jobs on several ranks of torchrun. Rank 0 is the program; the other ranks follow it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.errors import UserError
from rkkd_cli.methods import method_class
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.engines.worker import WorkerOptions
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, Stopped


@dataclass(frozen=True)
class RankTask:
    """What all ranks do together: train jobs, or the teacher of an experiment."""

    task: Work | Experiment
    options: WorkerOptions

    def events(self, runtime: Runtime) -> Iterator[Event]:
        """Yield the events of this rank."""
        if isinstance(self.task, Experiment):
            return prepare_teacher(self.task, runtime)
        return run_jobs(self.task, runtime)


def check_ranks(experiment: Experiment, count: int) -> None:
    """Raise UserError if so many ranks cannot share the experiment's batches."""
    if experiment.sync_batchnorm and experiment.stacked:
        raise UserError("stacked arms have no sync_batchnorm; leave out one of the two")
    if experiment.cache_teacher != "off":
        raise UserError("several ranks cannot cache teacher logits; leave out --cache-teacher")
    if experiment.cuda_graph:
        raise UserError("several ranks cannot record CUDA graphs; leave out --cuda-graph")
    for arm in experiment.resolved_arms:
        config = arm.experiment
        recipes: dict[str, TrainingConfig] = {"training": config.training}
        if config.teacher.checkpoint is None and config.teacher.training is not None:
            recipes["teacher.training"] = config.teacher.training
        for section, recipe in recipes.items():
            if recipe.batch_size < count:
                raise UserError(
                    f"{section}.batch_size = {recipe.batch_size} is shared by all ranks, and there "
                    f"are {count}; raise it, or start fewer"
                )
        if method_class(config.method.name).has_memory_bank:
            raise UserError(
                f"arm {arm.name}: method {config.method.name} keeps a memory of all training "
                "images, which several ranks cannot share; train it without torchrun"
            )


class RanksEngine:
    """Rank 0 of several. All ranks train each job together."""

    jobs_at_once = 1
    threads = None

    def __init__(self, process_group: TorchrunGroup) -> None:
        self.process_group = process_group

    def device(self, name: str) -> torch.device:
        """Return this rank's device. Raises UserError."""
        return device_of_rank(name, os.environ)

    def free_memory(self, device: torch.device) -> int:
        """Return the free bytes of the device."""
        return free_memory(device)

    def run(self, work: Work, runtime: Runtime) -> Iterator[Event]:
        """Yield all events until the work is done."""
        return _run_on_all_ranks(work, [job.experiment for job in work.jobs], runtime)


def prepare_on_ranks(experiment: Experiment, runtime: Runtime) -> Iterator[Event]:
    """Train the experiment's teacher on all ranks; rank 0 caches it."""
    return _run_on_all_ranks(experiment, [experiment], runtime)


def _run_on_all_ranks(
    task: Work | Experiment, experiments: list[Experiment], runtime: Runtime
) -> Iterator[Event]:
    """Announce the task to the other ranks, which :func:`follow`; yield the events of rank 0."""
    process_group = runtime.process_group
    assert isinstance(process_group, TorchrunGroup)
    options = WorkerOptions.like_this_process(runtime.device.type, experiments, runtime)
    process_group.send(options.device)
    process_group.init(options.device)
    rank_task = process_group.broadcast(RankTask(task, options))
    yield from rank_task.events(runtime)


def follow(process_group: TorchrunGroup, cache: Path, controller: SharedStopController) -> None:
    """Do what rank 0 does, and record nothing, until it ends.

    Raises Dismissed when it ends, and whatever the work raises.
    """
    while True:
        device_type = process_group.receive()
        device_name = str(device_of_rank(device_type, os.environ))
        process_group.init(device_type)
        rank_task = process_group.broadcast(None)
        assert isinstance(rank_task, RankTask)
        device = replace(rank_task.options, device=device_name).apply()
        with suppress(Stopped):
            for _ in rank_task.events(Runtime(device, cache, controller, process_group)):
                pass
        process_group.destroy()
