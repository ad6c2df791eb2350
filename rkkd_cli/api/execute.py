"""Carry a run out: check the experiment, train, record, let a watcher follow, draw figures."""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pandas import DataFrame

from rkkd_cli.api.download_weights import download_weights
from rkkd_cli.api.ended_run import EndedRun, finish_run
from rkkd_cli.api.options import RunOptions
from rkkd_cli.api.requests import RunRequest
from rkkd_cli.api.signals import Interrupted, stopping_on_signals
from rkkd_cli.api.watcher import Watcher
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.environment import command_line
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory, is_run
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.doubts import doubts
from rkkd_cli.sweep.engines.engine import Engine, JobSize
from rkkd_cli.sweep.engines.ranks import check_ranks
from rkkd_cli.sweep.loggers import Loggers, make_loggers
from rkkd_cli.sweep.recording.own_code import check_code
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
from rkkd_cli.sweep.recording.same_weights import check_weights
from rkkd_cli.train.device import (
    describe_device,
    keep_freed_memory,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup, TorchrunGroup
from rkkd_cli.train.distributed.torchrun import launch_id
from rkkd_cli.train.events import ArmStopped, JobFailed
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped


@dataclass(frozen=True)
class Executor:
    """Carries runs out on an engine, and lets a watcher follow them.

    ``process_group`` has the ranks that share each batch under torchrun.
    """

    engine: Engine
    options: RunOptions
    watcher: Watcher
    process_group: TorchrunGroup | None = None

    @property
    def _ranks(self) -> ProcessGroup:
        return self.process_group or SINGLE_PROCESS

    def begin(
        self, experiment: Experiment, results: Path, name: str, or_next: bool
    ) -> EndedRun | None:
        """Begin a run and train it to its end. Only rank 0 gets a result, and shows progress.

        With ``or_next`` the run's name gets a suffix if it has been taken in the meantime.
        """
        controller = self._controller()
        with stopping_on_signals(controller, self.watcher.say):
            device, doubted = self._set_up(experiment, experiment.threads or self.engine.threads)
            work = self._work(RunState(experiment), device)
            if not self._ranks.is_first:
                self._train(work, device, controller)
                return None
            recorder = Recorder(
                experiment, results, name, describe_device(device), or_next, self._loggers()
            )
            recorder.manifest.ranks = self._ranks.world_size
            recorder.manifest.launch = launch_id()
            self._doubt(recorder, doubted)
            return self._run(recorder, work, device, controller)

    def resume(self, run: RunDirectory, request: RunRequest) -> EndedRun | None:
        """Continue a run that has begun, as the requested experiment. Only rank 0 gets a result.

        Rank 0 reads and repairs the run; the other ranks get from it what is left to train.
        """
        controller = self._controller()
        with stopping_on_signals(controller, self.watcher.say):
            if not self._ranks.is_first:
                self._join(controller)
                return None
            run.acquire()
            try:
                recorded = read_run(run)
                requested = request.experiment(recorded.experiment)
                resumed = resume_run(recorded, requested, extend=request.extends)
                self._warn(resumed.notes)
                manifest = resumed.manifest
                retries = self.options.retry_failed and bool(manifest and manifest.stopped)
                if resumed.has_ended and manifest is not None and not retries:
                    return self._result_of_ended_run(resumed, manifest)
                check_streams(resumed)
                return self._continue_run(resumed, controller)
            except OSError as error:
                raise _disk_error(error, f"`rkkd resume {run.handle}` continues it") from None
            finally:
                run.release()

    def _result_of_ended_run(self, resumed: ResumedRun, manifest: Manifest) -> EndedRun:
        """Return the result of a run that has ended. The loggers get the rows that they lack."""
        self._ranks.broadcast(None)
        run, experiment, loggers = resumed.run, resumed.experiment, self._loggers()
        self._warn([f"run {run.name} is {manifest.status}: there is nothing to resume"])
        lines = run.metrics.read_text(encoding="utf-8").splitlines()
        loggers.begin(run, manifest.id, experiment, lines)
        loggers.end((early["arm"], early["seed"]) for early in manifest.ended_early)
        return self._result(loggers, run, manifest, experiment, run.read_metrics(manifest))

    def _continue_run(self, resumed: ResumedRun, controller: StopController) -> EndedRun:
        run, experiment, manifest = resumed.run, resumed.experiment, resumed.manifest
        code = manifest.code if manifest else {}
        changed = check_code(run, experiment, code, self.options.accept_changed_code)
        threads = experiment.threads or (manifest.threads if manifest else None)
        self._ranks.broadcast((experiment, threads))
        device, doubted = self._set_up(experiment, threads)
        if manifest is not None:
            check_weights(manifest, experiment)
        moved = check_machine(resumed, device, self._ranks.world_size)
        self._warn(moved)
        work = self._work(resumed.state, device)
        recorder = resumed_recorder(
            resumed, describe_device(device), [*moved, *changed], work.jobs, self._loggers()
        )
        self._warn(f"warning: {sentence}" for sentence in changed)
        recorder.accepted = changed
        self._doubt(recorder, doubted)
        return self._run(recorder, work, device, controller)

    def _join(self, controller: StopController) -> None:
        """Train what is left of the run that rank 0 continues, on another rank."""
        begun: tuple[Experiment, int | None] | None = self._ranks.broadcast(None)
        if begun is not None:  # and has not ended
            device, _ = self._set_up(*begun)
            self._train(self._ranks.broadcast(Work(())), device, controller)

    def _train(self, work: Work, device: torch.device, controller: StopController) -> None:
        """Train the work on another rank: rank 0 records it."""
        for _ in self.engine.run(work, Runtime(device, cache_directory(), controller, self._ranks)):
            pass

    def _controller(self) -> StopController:
        if self._ranks.world_size > 1:
            return SharedStopController(self.options.minutes, self._ranks)
        return StopController(self.options.minutes)

    def _loggers(self) -> Loggers:
        """Return the loggers, which report their errors as warnings."""
        names, project, tags = self.options.loggers
        return make_loggers(names, self.watcher.say, project, tags)

    def _work(self, state: RunState, device: torch.device) -> Work:
        """Return what is left to train, in jobs of a size that fits on rank 0."""
        if not self.options.fit_memory:
            return self._ranks.broadcast(state.work(retry=self.options.retry_failed))
        seeds = len(state.experiment.seeds)
        size = JobSize(self.engine, device, seeds, self.options.cells_per_job)
        return self._ranks.broadcast(state.work(size.max_arms, self.options.retry_failed))

    def _set_up(
        self, experiment: Experiment, threads: int | None
    ) -> tuple[torch.device, list[str]]:
        """Check the experiment and set up this process for it; return its device, and doubts."""
        use_threads(threads)
        device = self.engine.device(experiment.device)
        check_device(experiment, device)
        download_weights(experiment, self.watcher.say)
        checked = check_experiment(experiment, cache_directory())
        if self._ranks.world_size > 1:
            check_ranks(experiment, self._ranks.world_size, device)
        keep_freed_memory()
        use_deterministic_algorithms(device, experiment.deterministic)
        return device, doubts(checked)

    def _run(
        self, recorder: Recorder, work: Work, device: torch.device, controller: StopController
    ) -> EndedRun:
        """Train the work; record its events. The manifest says how the run ended."""
        runtime = Runtime(device, cache_directory(), controller, self._ranks)
        failure = ""
        try:
            with self.watcher.following(work, recorder) as follow:
                for event in self.engine.run(work, runtime):
                    recorder.take(event)
                    if not controller.stop_requested:  # else the terminal may be closed
                        follow(event)
                    if self.options.fail_fast and isinstance(event, ArmStopped | JobFailed):
                        failure = failure or recorder.manifest.stopped[-1]
                        controller.stop_requested = True
                    controller.raise_if_stopped_between_stages()
            recorder.close("incomplete" if recorder.manifest.stopped else "finished")
        except BaseException as error:
            if failure and isinstance(error, Stopped):
                error = RunError(f"{failure}; --fail-fast ends the run here")
            raise _close_after_error(recorder, error) from None
        self._warn(recorder.manifest.stopped, style="red")
        run, manifest = recorder.started_run, recorder.manifest
        loggers, metrics = recorder.loggers, recorder.metrics()
        return self._result(loggers, run, manifest, recorder.experiment, metrics)

    def _result(
        self,
        loggers: Loggers,
        run: RunDirectory,
        manifest: Manifest,
        experiment: Experiment,
        metrics: DataFrame,
    ) -> EndedRun:
        figures, published = self.options.figures, self.options.published
        return finish_run(
            run, manifest, experiment, metrics, loggers, figures=figures, published=published
        )

    def _doubt(self, recorder: Recorder, sentences: list[str]) -> None:
        """Say what makes the numbers doubtful, unless the run has recorded it; record it."""
        known = recorder.manifest.warnings
        self._warn(f"warning: {sentence}" for sentence in sentences if sentence not in known)
        recorder.warn(sentences)

    def _warn(self, sentences: Iterable[str], style: str = "yellow") -> None:
        for sentence in sentences:
            self.watcher.say(sentence, style)


def _close_after_error(recorder: Recorder, error: BaseException) -> BaseException:
    """Record in the manifest how the run ended, and return the error that tells the user."""
    if isinstance(error.__context__, Stopped | Interrupted):  # raised since the terminal is closed
        error = error.__context__
    interrupted = isinstance(error, Stopped | SystemExit)
    run = recorder.run
    if run and is_run(run.path):
        advice = f"`rkkd resume {run.handle}` continues it"
    else:
        advice = f"`{shlex.join(command_line())}` begins it"
    if isinstance(error, OSError) and run:
        error = _disk_error(error, advice)
    with suppress(OSError):  # if the disk is full, the run will be found dead
        recorder.close(
            "interrupted" if interrupted else "failed", None if interrupted else str(error)
        )
    if interrupted:
        error.add_note(advice)
    return error


def _disk_error(error: OSError, advice: str) -> RunError:
    where = f" ({error.filename})" if error.filename else ""
    return RunError(f"{error.strerror or error}{where}; once that is repaired, {advice}")
