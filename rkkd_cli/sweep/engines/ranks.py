"""Runs jobs on several ranks of torchrun: rank 0 is the program, the others follow it."""

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

    what: Work | Experiment
    options: WorkerOptions

    def announce(self, process_group: TorchrunGroup) -> None:
        """Let the other ranks begin it too."""
        process_group.send(self.options.device)
        process_group.init(self.options.device)
        process_group.broadcast(self)

    def events(self, runtime: Runtime) -> Iterator[Event]:
        """Yield what happens on this rank."""
        if isinstance(self.what, Experiment):
            return prepare_teacher(self.what, runtime)
        return run_jobs(self.what, runtime)


def check_ranks(experiment: Experiment, count: int) -> None:
    """Raise UserError where so many ranks cannot share the experiment's batches."""
    if experiment.sync_batchnorm and experiment.stacked:
        raise UserError("stacked arms have no sync_batchnorm; leave one of the two away")
    if experiment.cache_teacher != "off":
        raise UserError("several ranks keep no teacher's logits; leave out --cache-teacher")
    if experiment.cuda_graph:
        raise UserError("several ranks record no CUDA graph; leave out --cuda-graph")
    for arm in experiment.resolved_arms:
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
        if method_class(own.method.name).has_memory_bank:
            raise UserError(
                f"arm {arm.name}: method {own.method.name} keeps a memory of all training images, "
                "which several ranks cannot share; train it without torchrun"
            )


class RanksEngine:
    """Rank 0 of several: each job is trained by all ranks together."""

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
        """Yield everything that happens until the work is done."""
        return _with_all_ranks(work, [job.experiment for job in work.jobs], runtime)


def prepare_on_ranks(experiment: Experiment, runtime: Runtime) -> Iterator[Event]:
    """Let all ranks train the experiment's teacher; rank 0 caches it."""
    return _with_all_ranks(experiment, [experiment], runtime)


def _with_all_ranks(
    what: Work | Experiment, experiments: list[Experiment], runtime: Runtime
) -> Iterator[Event]:
    assert isinstance(runtime.process_group, TorchrunGroup)
    options = WorkerOptions.like_this_process(runtime.device.type, experiments, runtime)
    task = RankTask(what, options)
    task.announce(runtime.process_group)
    yield from task.events(runtime)


def follow(process_group: TorchrunGroup, cache: Path, controller: SharedStopController) -> None:
    """Do what rank 0 does, and record nothing, until it ends.

    Raises Dismissed at that end, and whatever the work raises.
    """
    while True:
        device_type = process_group.receive()
        own_device = str(device_of_rank(device_type, os.environ))
        process_group.init(device_type)
        task = process_group.broadcast(None)
        assert isinstance(task, RankTask)
        device = replace(task.options, device=own_device).apply()
        with suppress(Stopped):
            for _ in task.events(Runtime(device, cache, controller, process_group)):
                pass
        process_group.destroy()
