"""``rkkd teacher train``: train and cache a teacher."""

import os
from contextlib import nullcontext

from rkkd_cli.api.download_weights import download_weights
from rkkd_cli.api.signals import Interrupted, stopping_on_signals
from rkkd_cli.cli.output.console import err
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.cli.runtime.terminal import say
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.engines.ranks import check_ranks
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped


def train_teacher(
    experiment: Experiment, minutes: float, process_group: TorchrunGroup | None = None
) -> None:
    """Train and cache the experiment's teacher unless it is cached; under torchrun, on all ranks.

    Raises UserError, also if so many ranks cannot share its batches.
    """
    controller = (
        SharedStopController(minutes, process_group) if process_group else StopController(minutes)
    )
    cache = cache_directory()
    use_threads(experiment.threads)
    with stopping_on_signals(controller, say):
        download_weights(experiment, say)
        check_experiment(experiment, cache)
        if process_group:
            device = device_of_rank(experiment.device, os.environ)
            check_ranks(experiment, process_group.world_size, device)
        else:
            device = pick_device(experiment.device)
        check_device(experiment, device)
        keep_freed_memory()
        use_deterministic_algorithms(device, experiment.deterministic)
        runtime = Runtime(device, cache, controller, process_group or SINGLE_PROCESS)
        noticing_lost_ranks = process_group.collective() if process_group else nullcontext()
        try:
            with make_reporter(err, quiet=False) as reporter, noticing_lost_ranks:
                for event in prepare_teacher(experiment, runtime):
                    if not controller.stop_requested:  # else the terminal may be closed
                        reporter.show(event)
                    controller.raise_if_stopped_between_stages()
        except (Stopped, Interrupted) as error:
            error.add_note("the same command continues")
            raise
