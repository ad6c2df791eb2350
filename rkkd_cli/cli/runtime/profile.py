"""``rkkd run --profile``: where the time of a training step goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rkkd_cli.cli.output.console import err, print_line
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.errors import UserError
from rkkd_cli.files import write_atomically
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.profile import StepTimer

TRACE = "trace.json"


def step_timer(enabled: bool, process_group: TorchrunGroup | None) -> StepTimer | None:
    """Return a timer of the steps if enabled. Raises UserError under torchrun."""
    if enabled and process_group is not None:
        raise UserError("--profile watches one process; leave it out under torchrun")
    return StepTimer() if enabled else None


def print_profile(timer: StepTimer | None, run: Path) -> None:
    """Print the time of each phase of a step to stderr, and write a trace to the run's folder."""
    if timer is None:
        return
    phases = timer.seconds_per_step()
    if not phases:
        print_line(err, "nothing was trained, so there is no profile")
        return
    total = sum(phases.values())
    err.print()
    print_line(err, f"A step takes {1e3 * total:.1f} ms:")
    err.print(plain_table(["owner", "phase", "ms", "share (%)"], _phase_rows(phases, total)))
    evaluations = timer.evaluations()
    if evaluations:
        milliseconds = 1e3 * fmean(evaluations)
        print_line(err, f"Evaluation: {milliseconds:.0f} ms per split and epoch, beside the steps.")
    path = run / TRACE
    write_atomically(path, timer.trace())
    print_line(err, f"{path}: open it at chrome://tracing or ui.perfetto.dev")


def _phase_rows(phases: Mapping[tuple[str, str], float], total: float) -> list[Sequence[str]]:
    return [
        [owner, phase, f"{1e3 * seconds:.2f}", f"{100 * seconds / total:.1f}"]
        for (owner, phase), seconds in phases.items()
    ]
