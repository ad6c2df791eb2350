"""Downloads the weights that a library publishes, before the work begins."""

from rkkd_cli.api.watcher import Say
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.models.first_weights import fetch_weights
from rkkd_cli.sweep.checked_model import missing_weights


def download_weights(experiment: Experiment, say: Say) -> None:
    """Download the published weights of an experiment that are not in their library's cache.

    Raises UserError for unknown weights, RunError if they cannot be downloaded.
    """
    for source in missing_weights(experiment):
        say(f"downloading {source.origin}, the weights {source.label} of {source.model}", "")
        fetch_weights(source)
