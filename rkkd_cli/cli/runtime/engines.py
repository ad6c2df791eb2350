"""Which engine places the jobs of a grid, and how many cells each job has."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from rkkd_cli.cli.flags.grid import Placing
from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.engines.local import Engine, run_jobs
from rkkd_cli.sweep.engines.ranks import on_ranks
from rkkd_cli.sweep.estimate import free_memory, memory_of
from rkkd_cli.sweep.recording.run_state import MostArms
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank


@dataclass(frozen=True)
class Place:
    """An engine and how many jobs it runs at once.

    ``free`` tells the bytes that each job may use. ``threads`` are the CPU threads of each (None:
    all); ``device`` is where they compute, where that is not this machine's.
    """

    engine: Engine
    at_once: int
    free: Callable[[], int]
    threads: int | None = None
    device: torch.device | None = None


def make_place(
    placing: Placing,
    experiment: Experiment,
    keep_going: bool,
    process_group: TorchrunGroup | None = None,
) -> Place:
    """Return where the jobs run: in this process, on several ranks, in processes, on a cluster.

    Raises UserError for a cluster that cannot be reached, or has no room for any job.
    """
    if process_group:
        own = device_of_rank(experiment.device, os.environ)
        return Place(on_ranks(process_group), 1, lambda: free_memory(own))
    if placing.engine == "ray":
        return _on_cluster(placing, experiment, keep_going)
    device, workers = pick_device(experiment.device), placing.workers or 1
    if workers == 1:
        return Place(_here(keep_going), 1, lambda: free_memory(device))
    from rkkd_cli.sweep.engines.processes import on_processes

    threads = max(1, (os.cpu_count() or 1) // workers)
    engine = on_processes(workers, keep_going)
    return Place(engine, workers, lambda: free_memory(device) // workers, threads)


def _here(keep_going: bool) -> Engine:
    return lambda begun, device, cache, controller, jobs: run_jobs(
        begun, device, cache, controller, jobs, keep_going
    )


def _on_cluster(placing: Placing, experiment: Experiment, keep_going: bool) -> Place:
    try:
        from rkkd_cli.sweep.engines.ray.cluster import Cluster, Request, cluster_has_gpus, connect
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(
            "--engine ray needs Ray; install it with `pip install 'rkkd[ray]'`"
        ) from None
    from rkkd_cli.sweep.engines.ray.engine import on_ray

    cpus = placing.cpus_per_job or experiment.threads or 1
    connect(placing.address)
    gpus = _gpus(placing.gpus_per_job, experiment.device, cluster_has_gpus())
    cluster = Cluster(Request(cpus, gpus, placing.workers))
    at_once = cluster.checked_room()
    engine, device = on_ray(cluster, keep_going), cluster.request.device
    return Place(engine, at_once, cluster.free_for_a_job, cpus, device)


def _gpus(stated: float | None, device: str, there_are: bool) -> float:
    """Return the GPUs of a job: what is stated, else one where there are any and are wanted."""
    gpus = float(device != "cpu" and there_are) if stated is None else stated
    if (device.startswith("cuda") and not gpus) or (device == "cpu" and gpus):
        raise UserError(
            f"device {device} and {gpus:g} GPUs for a job do not go together; set --gpus-per-job "
            "or --device"
        )
    return gpus


def cells_per_job(experiment: Experiment, place: Place, limit: int | None) -> MostArms:
    """Return how many of some arms go into one job.

    As many as fit into memory, at most ``limit``; fewer where there would be fewer jobs than
    places, as a seed's stream can be shared out.
    """

    def most_arms(arms: tuple[Arm, ...]) -> int:
        parts = -(-place.at_once // len(experiment.seeds))
        fit = memory_of(arms).most_arms(place.free())
        return min(fit, limit or fit, -(-len(arms) // parts))

    return most_arms
