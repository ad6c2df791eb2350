"""From a checked experiment to a finished run: train, record, show, draw."""

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rkkd_cli.cli.flags.overrides import Request
from rkkd_cli.cli.output.console import err
from rkkd_cli.cli.output.grid_result import any_ended
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.cli.output.run_result import Finish, Result
from rkkd_cli.cli.runtime.signals import Interrupted, stopping_on_signals
from rkkd_cli.config.compatibility import continued
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, printable
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.environment import command_line
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory, is_run
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.engines.local import Engine, run_jobs
from rkkd_cli.sweep.engines.ranks import check_ranks, on_ranks
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.loggers import Loggers, make_loggers
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.reopen import (
    Change,
    Reopened,
    check_machine,
    check_streams,
    recorder_of,
    reopen,
)
from rkkd_cli.sweep.recording.run_state import Begun, MostArms
from rkkd_cli.train.device import (
    describe_device,
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import device_of_rank, launch
from rkkd_cli.train.events import ArmStopped, JobFailed
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped


@dataclass(frozen=True)
class Manner:
    """How a run is carried out; no number depends on it, but the last bits on the threads.

    Within an epoch a checkpoint is kept every ``minutes``. ``engine`` places the jobs, each with at
    most as many arms as ``most_arms`` says; ``retry`` does what failed before again; ``fail_fast``
    ends the run at the first arm or job that fails. ``finish`` makes figures and tables at the end;
    ``threads`` are the CPU threads of a new run whose experiment names none; ``device`` is where
    the jobs compute, if that is not the experiment's device on this machine. ``loggers`` are the
    names of those that are told beside metrics.csv; ``ranks`` those that share each batch, where
    torchrun has started several.
    """

    minutes: float
    quiet: bool = False
    engine: Engine = run_jobs
    most_arms: MostArms | None = None
    retry: bool = False
    fail_fast: bool = False
    finish: Finish = any_ended
    threads: int | None = None
    device: torch.device | None = None
    loggers: tuple[str, ...] = ()
    process_group: TorchrunGroup | None = None

    def on(self, process_group: TorchrunGroup | None) -> "Manner":
        """Return the manner on these ranks, if there are several."""
        return (
            replace(self, engine=on_ranks(process_group), process_group=process_group)
            if process_group
            else self
        )

    def made_loggers(self) -> Loggers:
        """Return the loggers; what befalls them is said at once."""
        return make_loggers(self.loggers, lambda sentence: _say([sentence]))

    def make_controller(self) -> StopController:
        """Return the pace of the training, that of all ranks."""
        return (
            SharedStopController(self.minutes, self.process_group)
            if self.process_group
            else StopController(self.minutes)
        )

    @property
    def count(self) -> int:
        """The number of ranks."""
        return self.process_group.world_size if self.process_group else 1

    def chosen_device(self, name: str) -> torch.device:
        """Return where this process computes. Raises UserError."""
        if self.process_group:
            return device_of_rank(name, os.environ)
        return self.device or pick_device(name)


def begin(
    experiment: Experiment, results: Path, name: str, or_next: bool, manner: Manner
) -> Result:
    """Run the experiment to its end. Progress goes to stderr.

    ``or_next`` allows a suffix where the name was taken in the meantime.
    """
    use_threads(experiment.threads or manner.threads)
    controller = manner.make_controller()
    with stopping_on_signals(controller):
        device = _checked_device(experiment, manner)
        told = describe_device(device), or_next, manner.made_loggers()
        recorder = Recorder(experiment, results, name, *told)
        recorder.manifest.ranks, recorder.manifest.launch = manner.count, launch()
        begun = Begun(experiment)
        return _run(recorder, begun, begun.plan(manner.most_arms), device, controller, manner)


def go_on(
    run: RunDirectory, request: Request, manner: Manner, change: Change = continued
) -> Result:
    """Go on with a run that has begun; ``request`` makes the experiment from the recorded one."""
    controller = manner.make_controller()
    with stopping_on_signals(controller):
        run.acquire()
        try:
            reopened = reopen(run, request, change)
            _say(reopened.notes)
            manifest = reopened.manifest
            has_failed = manifest is not None and bool(manifest.stopped)
            if reopened.has_ended and manifest is not None and not (manner.retry and has_failed):
                _say([f"run {run.name} is {manifest.status}: there is nothing to resume"])
                _log_ended(run, reopened.experiment, manifest, manner.made_loggers())
                return manner.finish(run, manifest)
            check_streams(reopened)
            jobs = reopened.begun.plan(manner.most_arms, manner.retry)
            return _go_on(reopened, jobs, controller, manner)
        except OSError as error:
            raise _mendable(error, f"`rkkd resume {run.handle}` goes on") from None
        finally:
            run.release()


def _log_ended(
    run: RunDirectory, experiment: Experiment, manifest: Manifest, loggers: Loggers
) -> None:
    """Tell the loggers what they lack of a run that has ended."""
    lines = run.metrics.read_text(encoding="utf-8").splitlines()
    loggers.begin(run, manifest.id, experiment, lines)
    loggers.end((one["arm"], one["seed"]) for one in manifest.ended_early)


def _go_on(
    reopened: Reopened, jobs: Sequence[Job], controller: StopController, manner: Manner
) -> Result:
    experiment, manifest = reopened.experiment, reopened.manifest
    use_threads(experiment.threads or (manifest.threads if manifest else None))
    device = _checked_device(experiment, manner)
    moved = check_machine(reopened, device, manner.count)
    _say(moved)
    loggers = manner.made_loggers()
    recorder = recorder_of(reopened, describe_device(device), moved, jobs, loggers)
    return _run(recorder, reopened.begun, jobs, device, controller, manner)


def _checked_device(experiment: Experiment, manner: Manner) -> torch.device:
    device = manner.chosen_device(experiment.device)
    check_device(experiment, device)
    check_experiment(experiment, cache_directory())
    if manner.process_group:
        check_ranks(experiment, manner.count)
    keep_freed_memory()
    use_deterministic_algorithms(device, experiment.deterministic)
    return device


def _run(
    recorder: Recorder,
    begun: Begun,
    jobs: Sequence[Job],
    device: torch.device,
    controller: StopController,
    manner: Manner,
) -> Result:
    """Let the events happen, record and show them. The manifest says how it ended."""
    failure = ""
    try:
        with make_reporter(err, manner.quiet) as reporter:
            for event in manner.engine(begun, device, cache_directory(), controller, jobs):
                recorder.take(event)
                if not controller.stop_requested:  # the terminal may have gone
                    reporter.show(event)
                if manner.fail_fast and isinstance(event, ArmStopped | JobFailed):
                    failure = failure or recorder.manifest.stopped[-1]
                    controller.stop_requested = True
                controller.raise_if_stopped_between_stages()
        recorder.close("incomplete" if recorder.manifest.stopped else "finished")
    except BaseException as error:
        if failure and isinstance(error, Stopped):
            raise _closed(recorder, RunError(f"{failure}; --fail-fast ends the run here")) from None
        raise _closed(recorder, error) from None
    assert recorder.run is not None
    for sentence in recorder.manifest.stopped:
        err.print(f"rkkd: {printable(sentence)}", style="red", markup=False, soft_wrap=True)
    return manner.finish(recorder.run, recorder.manifest)


def _closed(recorder: Recorder, error: BaseException) -> BaseException:
    """Write into the manifest how the run ended; return the error that says so to the user."""
    if isinstance(error.__context__, Stopped | Interrupted):  # and then the terminal had gone
        error = error.__context__
    interrupted = isinstance(error, Stopped | SystemExit)
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
