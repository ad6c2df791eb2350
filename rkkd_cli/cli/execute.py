"""From a checked experiment to a finished run: train, record, show, draw."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from rkkd_cli.cli.console import err
from rkkd_cli.cli.options import Request
from rkkd_cli.cli.progress import make_reporter
from rkkd_cli.cli.result import Result, ended
from rkkd_cli.cli.signals import Interrupted, stopping_on_signals
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, printable
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.environment import command_line
from rkkd_cli.records.run_directory import RunDirectory, is_run
from rkkd_cli.sweep.begun import Begun
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.local import run_jobs
from rkkd_cli.sweep.recorder import Recorder
from rkkd_cli.sweep.reopen import Reopened, check_machine, recorder_of, reopen
from rkkd_cli.train.device import (
    describe_device,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.pace import Pace, Stopped


def begin(
    experiment: Experiment, results: Path, name: str, or_next: bool, minutes: float, quiet: bool
) -> Result:
    """Run the experiment to its end. Progress goes to stderr.

    ``or_next`` allows a suffix where the name was taken in the meantime; within an epoch a
    checkpoint is kept every ``minutes``.
    """
    use_threads(experiment.threads)
    pace = Pace(minutes)
    with stopping_on_signals(pace):
        device = _checked_device(experiment)
        recorder = Recorder(experiment, results, name, describe_device(device), or_next)
        return _run(recorder, Begun(experiment), device, pace, quiet)


def go_on(run: RunDirectory, request: Request, minutes: float, quiet: bool) -> Result:
    """Go on with a run that has begun; ``request`` makes the experiment from the recorded one."""
    pace = Pace(minutes)
    with stopping_on_signals(pace):
        run.acquire()
        try:
            reopened = reopen(run, request)
            _say(reopened.notes)
            if reopened.has_ended and reopened.manifest is not None:
                _say([f"run {run.name} is {reopened.manifest.status}: there is nothing to resume"])
                return ended(run, reopened.manifest)
            return _go_on(reopened, pace, quiet)
        except OSError as error:
            raise _mendable(error, f"`rkkd resume {run.handle}` goes on") from None
        finally:
            run.release()


def _go_on(reopened: Reopened, pace: Pace, quiet: bool) -> Result:
    experiment, manifest = reopened.experiment, reopened.manifest
    use_threads(experiment.threads or (manifest.threads if manifest else None))
    device = _checked_device(experiment)
    moved = check_machine(reopened, device)
    _say(moved)
    recorder = recorder_of(reopened, describe_device(device), moved)
    return _run(recorder, reopened.begun, device, pace, quiet)


def _checked_device(experiment: Experiment) -> torch.device:
    check_experiment(experiment, cache_directory())
    device = pick_device(experiment.device)
    use_deterministic_algorithms(device, experiment.deterministic)
    return device


def _run(recorder: Recorder, begun: Begun, device: torch.device, pace: Pace, quiet: bool) -> Result:
    """Let the events happen, record and show them. The manifest says how it ended."""
    try:
        with make_reporter(err, quiet) as reporter:
            for event in run_jobs(begun, device, cache_directory(), pace):
                recorder.take(event)
                if not pace.stop_requested:  # the terminal may have gone
                    reporter.show(event)
                pace.leave_between_stages()
        recorder.close("incomplete" if recorder.stopped else "finished")
    except BaseException as error:
        raise _closed(recorder, error) from None
    assert recorder.run is not None
    for sentence in recorder.manifest.stopped:
        err.print(f"rkkd: {printable(sentence)}", style="red", markup=False, soft_wrap=True)
    return ended(recorder.run, recorder.manifest)


def _closed(recorder: Recorder, error: BaseException) -> BaseException:
    """Write into the manifest how the run ended; return the error that says so to the user."""
    if isinstance(error.__context__, Stopped | Interrupted):  # and then the terminal had gone
        error = error.__context__
    interrupted = isinstance(error, Stopped | Interrupted)
    run = recorder.run
    began = run is not None and is_run(run.path)
    command = shlex.join(command_line())
    way_on = f"`rkkd resume {run.handle}` goes on" if run and began else f"`{command}` begins it"
    if isinstance(error, OSError) and run:
        error = _mendable(error, way_on)
    with suppress(OSError):  # a full disk: the run is then found dead
        recorder.close(
            "interrupted" if interrupted else "failed", None if interrupted else str(error)
        )
    if interrupted:
        error.add_note(way_on)
    return error


def _mendable(error: OSError, way_on: str) -> RunError:
    where = f" ({error.filename})" if error.filename else ""
    return RunError(f"{error.strerror or error}{where}; once that is mended, {way_on}")


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        err.print(f"rkkd: {printable(sentence)}", style="yellow", markup=False, soft_wrap=True)
