"""Runs jobs on several ranks of torchrun, and says what they cannot do."""

import os
from collections.abc import Iterator

import torch

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.errors import UserError
from rkkd_cli.methods import method_class
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime


def check_ranks(experiment: Experiment, count: int, device: torch.device) -> None:
    """Raise UserError if so many ranks on such devices cannot share the experiment's batches."""
    if experiment.sync_batchnorm and device.type != "cuda":
        raise UserError(
            f"PyTorch synchronises BatchNorm on CUDA devices only, and this is {device.type}; "
            "leave out --sync-batchnorm"
        )
    if experiment.sync_batchnorm and experiment.stacked:
        raise UserError("stacked arms have no sync_batchnorm; leave out one of the two")
    if experiment.cache_teacher != "off":
        raise UserError("several ranks cannot cache teacher logits; leave out --cache-teacher")
    if experiment.cuda_graph:
        raise UserError("several ranks cannot record CUDA graphs; leave out --cuda-graph")
    for arm in experiment.resolved_arms:
        config = arm.experiment
        recipes: dict[str, TrainingConfig] = {"training": config.training}
        for key, teacher in config.teacher_sections.items():
            if teacher.weights is None and teacher.training is not None:
                recipes[f"{key}.training"] = teacher.training
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
    """This process, as one rank of several that train each job together."""

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
        """Yield this rank's events until the work is done. Raises RunError for a lost rank."""
        with self.process_group.collective():
            yield from run_jobs(work, runtime)
