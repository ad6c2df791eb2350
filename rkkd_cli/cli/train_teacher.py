"""What ``rkkd teacher train`` does."""

from rkkd_cli.cli.console import err
from rkkd_cli.cli.progress import make_reporter
from rkkd_cli.cli.signals import Interrupted, stopping_on_signals
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.pace import Pace, Stopped


def train_teacher(experiment: Experiment, minutes: float) -> None:
    """Train and cache the experiment's teacher, or find it cached."""
    pace, cache = Pace(minutes), cache_directory()
    use_threads(experiment.threads)
    with stopping_on_signals(pace):
        check_experiment(experiment, cache)
        device = pick_device(experiment.device)
        keep_freed_memory()
        use_deterministic_algorithms(device, experiment.deterministic)
        try:
            with make_reporter(err, quiet=False) as reporter:
                for event in prepare_teacher(experiment, device, cache, pace):
                    if not pace.stop_requested:  # the terminal may have gone
                        reporter.show(event)
                    pace.leave_between_stages()
        except (Stopped, Interrupted) as left:
            left.add_note("the same command goes on")
            raise
