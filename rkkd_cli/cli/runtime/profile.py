"""``rkkd run --profile``: where the time of a step goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rkkd_cli.cli.output.console import err
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.errors import UserError
from rkkd_cli.files import write_whole
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.profile import StepTimer

TRACE = "trace.json"


def step_timer(wanted: bool, process_group: TorchrunGroup | None) -> StepTimer | None:
    """Return a timer of steps, if one is wanted. Raises UserError where several ranks train."""
    if wanted and process_group is not None:
        raise UserError("--profile watches one process; leave it out under torchrun")
    return StepTimer() if wanted else None


def say_profile(timer: StepTimer | None, run: Path) -> None:
    """Print each share of a step to stderr, and write the trace into the run's folder."""
    if timer is None:
        return
    step = timer.seconds_a_step()
    if not step:
        err.print("nothing was trained, so there is no profile", markup=False)
        return
    whole = sum(step.values())
    err.print(f"\nA step takes {1e3 * whole:.1f} ms:", markup=False)
    err.print(plain_table(["who", "what", "ms", "share (%)"], _rows(step, whole)))
    evaluations = timer.evaluations()
    if evaluations:
        text = f"{1e3 * fmean(evaluations):.0f} ms a split and epoch"
        err.print(f"Evaluation: {text}, beside the steps.", markup=False)
    path = run / TRACE
    write_whole(path, timer.trace())
    err.print(f"{path}: open it at chrome://tracing or ui.perfetto.dev", markup=False)


def _rows(step: Mapping[tuple[str, str], float], whole: float) -> list[Sequence[str]]:
    return [
        [who, what, f"{1e3 * seconds:.2f}", f"{100 * seconds / whole:.1f}"]
        for (who, what), seconds in step.items()
    ]
