"""From a checked experiment to a finished run: train, record, show, draw."""

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from rkkd_cli.cli.output.console import err
from rkkd_cli.cli.output.grid_result import ended_run
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.cli.output.run_result import Result
from rkkd_cli.cli.runtime.requests import Request
from rkkd_cli.cli.runtime.signals import Interrupted, stopping_on_signals
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, printable
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.environment import command_line
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory, is_run
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.engines.engine import Engine, JobSize
from rkkd_cli.sweep.engines.ranks import check_ranks
from rkkd_cli.sweep.loggers import Loggers, make_loggers
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.reopen import (
    ResumedRun,
    check_machine,
    check_streams,
    read_run,
    resume_run,
    resumed_recorder,
)
from rkkd_cli.sweep.recording.run_state import RunState, Work
from rkkd_cli.train.device import (
    describe_device,
    keep_freed_memory,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup, TorchrunGroup
from rkkd_cli.train.distributed.torchrun import launch
from rkkd_cli.train.events import ArmStopped, JobFailed
from rkkd_cli.train.profile import StepTimer, untimed
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; no number depends on it.

    Within an epoch a checkpoint is kept every ``minutes``. ``loggers`` names those that log beside
    metrics.csv. ``retry_failed`` trains again what failed before; ``fail_fast`` ends the run at the
    first arm or job that fails. With ``fit_memory`` a job has as many arms as fit into memory, at
    most ``cells_per_job``; without, all of a stream. ``published`` are the values beside a grid's.
    """

    minutes: float
    quiet: bool = False
    loggers: tuple[str, ...] = ()
    retry_failed: bool = False
    fail_fast: bool = False
    fit_memory: bool = False
    cells_per_job: int | None = None
    published: str | None = None


@dataclass(frozen=True)
class Executor:
    """Carries runs out on an engine.

    ``process_group`` are the ranks of torchrun that share each batch, if there are several;
    ``timer`` times the steps, for a profile.
    """

    engine: Engine
    options: RunOptions
    process_group: TorchrunGroup | None = None
    timer: StepTimer | None = None

    @property
    def _processes(self) -> ProcessGroup:
        return self.process_group or SINGLE_PROCESS

    def begin(self, experiment: Experiment, results: Path, name: str, or_next: bool) -> Result:
        """Run the experiment to its end. Progress goes to stderr.

        ``or_next`` allows a suffix where the name was taken in the meantime.
        """
        use_threads(experiment.threads or self.engine.threads)
        controller = self._controller()
        with stopping_on_signals(controller):
            device = self._checked_device(experiment)
            recorder = Recorder(
                experiment, results, name, describe_device(device), or_next, self._loggers()
            )
            recorder.manifest.ranks = self._processes.world_size
            recorder.manifest.launch = launch()
            work = self._work(RunState(experiment), device)
            return self._run(recorder, work, device, controller)

    def resume(self, run: RunDirectory, request: Request) -> Result:
        """Go on with a run that has begun, as the experiment that is requested."""
        controller = self._controller()
        with stopping_on_signals(controller):
            run.acquire()
            try:
                recorded = read_run(run)
                wanted = request.experiment(recorded.experiment)
                resumed = resume_run(recorded, wanted, extend=request.extends)
                _say(resumed.notes)
                manifest = resumed.manifest
                retries = self.options.retry_failed and bool(manifest and manifest.stopped)
                if resumed.has_ended and manifest is not None and not retries:
                    return self._already_ended(resumed, manifest)
                check_streams(resumed)
                return self._go_on(resumed, controller)
            except OSError as error:
                raise _repairable(error, f"`rkkd resume {run.handle}` goes on") from None
            finally:
                run.release()

    def _already_ended(self, resumed: ResumedRun, manifest: Manifest) -> Result:
        """Return the result of a run that had ended; the loggers get what they lack of it."""
        run, experiment, loggers = resumed.run, resumed.experiment, self._loggers()
        _say([f"run {run.name} is {manifest.status}: there is nothing to resume"])
        lines = run.metrics.read_text(encoding="utf-8").splitlines()
        loggers.begin(run, manifest.id, experiment, lines)
        loggers.end((early["arm"], early["seed"]) for early in manifest.ended_early)
        metrics = run.read_metrics(manifest)
        return ended_run(run, manifest, experiment, metrics, self.options.published)

    def _go_on(self, resumed: ResumedRun, controller: StopController) -> Result:
        experiment, manifest = resumed.experiment, resumed.manifest
        threads = manifest.threads if manifest else None
        use_threads(experiment.threads or threads)
        device = self._checked_device(experiment)
        moved = check_machine(resumed, device, self._processes.world_size)
        _say(moved)
        work = self._work(resumed.state, device)
        recorder = resumed_recorder(
            resumed, describe_device(device), moved, work.jobs, self._loggers()
        )
        return self._run(recorder, work, device, controller)

    def _controller(self) -> StopController:
        if self._processes.world_size > 1:
            return SharedStopController(self.options.minutes, self._processes)
        return StopController(self.options.minutes)

    def _loggers(self) -> Loggers:
        """Return the loggers; what goes wrong with them is said at once."""
        return make_loggers(self.options.loggers, lambda sentence: _say([sentence]))

    def _work(self, state: RunState, device: torch.device) -> Work:
        """Return what is left, in jobs of a size that fits."""
        if not self.options.fit_memory:
            return state.work(retry=self.options.retry_failed)
        seeds = len(state.experiment.seeds)
        size = JobSize(self.engine, device, seeds, self.options.cells_per_job)
        return state.work(size.max_arms, self.options.retry_failed)

    def _checked_device(self, experiment: Experiment) -> torch.device:
        device = self.engine.device(experiment.device)
        check_device(experiment, device)
        check_experiment(experiment, cache_directory())
        if self._processes.world_size > 1:
            check_ranks(experiment, self._processes.world_size)
        keep_freed_memory()
        use_deterministic_algorithms(device, experiment.deterministic)
        return device

    def _run(
        self, recorder: Recorder, work: Work, device: torch.device, controller: StopController
    ) -> Result:
        """Let the events happen, record and show them. The manifest says how it ended."""
        cache = cache_directory()
        runtime = Runtime(device, cache, controller, self._processes, self.timer or untimed)
        failure = ""
        try:
            with make_reporter(err, self.options.quiet) as reporter:
                for event in self.engine.run(work, runtime):
                    recorder.take(event)
                    if not controller.stop_requested:  # the terminal may have gone
                        reporter.show(event)
                    if self.options.fail_fast and isinstance(event, ArmStopped | JobFailed):
                        failure = failure or recorder.manifest.stopped[-1]
                        controller.stop_requested = True
                    controller.raise_if_stopped_between_stages()
            recorder.close("incomplete" if recorder.manifest.stopped else "finished")
        except BaseException as error:
            if failure and isinstance(error, Stopped):
                ended = RunError(f"{failure}; --fail-fast ends the run here")
                raise _closed(recorder, ended) from None
            raise _closed(recorder, error) from None
        _say(recorder.manifest.stopped, style="red")
        run, manifest = recorder.finished_run, recorder.manifest
        metrics = recorder.metrics()
        return ended_run(run, manifest, recorder.experiment, metrics, self.options.published)


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
        error = _repairable(error, way_on)
    with suppress(OSError):  # a full disk: the run is then found dead
        recorder.close(
            "interrupted" if interrupted else "failed", None if interrupted else str(error)
        )
    if interrupted:
        error.add_note(way_on)
    return error


def _repairable(error: OSError, way_on: str) -> RunError:
    where = f" ({error.filename})" if error.filename else ""
    return RunError(f"{error.strerror or error}{where}; once that is mended, {way_on}")


def _say(sentences: Iterable[str] | Sequence[str], style: str = "yellow") -> None:
    for sentence in sentences:
        err.print(f"rkkd: {printable(sentence)}", style=style, markup=False, soft_wrap=True)
