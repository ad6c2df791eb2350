"""Make the engine that the options choose."""

from collections.abc import Callable

from rkkd_cli.api.options import EngineOptions
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import UserError
from rkkd_cli.installation import install_command
from rkkd_cli.sweep.engines.engine import Engine
from rkkd_cli.sweep.engines.local import LocalEngine
from rkkd_cli.sweep.engines.ranks import RanksEngine
from rkkd_cli.train.distributed.process_group import TorchrunGroup


def make_engine(
    options: EngineOptions,
    experiment: Callable[[], Experiment],
    keep_going: bool,
    process_group: TorchrunGroup | None,
) -> Engine:
    """Return torchrun's ranks, a Ray cluster, processes, or this process.

    Only a cluster needs to know the ``experiment``. Raises UserError for one that cannot be
    reached, or has no room for any job.
    """
    if process_group:
        return RanksEngine(process_group)
    if options.engine == "ray":
        return _ray_engine(options, experiment(), keep_going)
    workers = options.workers or 1
    if workers == 1:
        return LocalEngine(keep_going)
    from rkkd_cli.sweep.engines.processes import ProcessesEngine

    return ProcessesEngine(workers, keep_going)


def _ray_engine(options: EngineOptions, experiment: Experiment, keep_going: bool) -> Engine:
    try:
        from rkkd_cli.sweep.engines.ray.cluster import (
            Cluster,
            JobResources,
            cluster_has_gpus,
            connect,
        )
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(f"--engine ray needs Ray; install it: {install_command('ray')}") from None
    from rkkd_cli.sweep.engines.ray.engine import RayEngine

    cpus = options.cpus_per_job or experiment.threads or 1
    connect(options.address)
    gpus = _gpus_per_job(options.gpus_per_job, experiment.device, cluster_has_gpus())
    return RayEngine(Cluster(JobResources(cpus, gpus, options.workers)), keep_going)


def _gpus_per_job(requested: float | None, device: str, cluster_has_gpus: bool) -> float:
    """Return the GPUs of a job: as requested, else one if the device and the cluster allow it."""
    gpus = float(device != "cpu" and cluster_has_gpus) if requested is None else requested
    if (device.startswith("cuda") and not gpus) or (device == "cpu" and gpus):
        raise UserError(
            f"device {device} and {gpus:g} GPUs for a job do not go together; set --gpus-per-job "
            "or --device"
        )
    return gpus
