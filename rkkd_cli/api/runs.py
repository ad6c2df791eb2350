"""Load an experiment, run it and go on with a run, from Python."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from signal import SIGINT
from typing import Any

from rkkd_cli.api.engines import make_engine
from rkkd_cli.api.execute import Executor
from rkkd_cli.api.options import ChosenLoggers, EngineOptions, RunOptions
from rkkd_cli.api.progress_bar import PythonWatcher
from rkkd_cli.api.python_values import overrides_from
from rkkd_cli.api.recorded_run import Run
from rkkd_cli.api.requests import ExperimentRequest, LoadedExperiment, run_to_resume
from rkkd_cli.api.signals import Interrupted
from rkkd_cli.api.watcher import OnEvent
from rkkd_cli.config.experiment import Experiment, name_from
from rkkd_cli.config.presets import DEFAULT_PRESET
from rkkd_cli.config.shipped import preset_description, preset_names
from rkkd_cli.errors import UserError
from rkkd_cli.records import DEFAULT_RESULTS
from rkkd_cli.records.run_directory import AUTO, check_free, new_name
from rkkd_cli.sweep.jobs import count_jobs
from rkkd_cli.sweep.loggers import check_installed


def load_experiment(
    preset: str | Path = DEFAULT_PRESET, overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """Return a preset with overrides, validated, its arms resolved.

    Args:
        preset: the name of a preset, a TOML file, or a run's folder.
        overrides: values by key, such as ``{"training.epochs": 5, "seeds": [0, 1]}``; None gives a
            key its default. The keys are those of ``rkkd ls keys``. Nested tables change only the
            keys that they name, except ``arms``, ``vary``, ``findings``, ``teachers`` and a model's
            ``options``, which are replaced. Values may be numpy's.

    A preset that varies keys gets all cells of its grid as arms. Raises UserError, which names the
    key and the way out.
    """
    if not isinstance(preset, str | Path):
        raise UserError(f"a preset is a name or a file, not {type(preset).__name__}")
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UserError("overrides are values by key, such as {'training.epochs': 5}")
    return ExperimentRequest(str(preset), [*overrides_from(overrides or {})]).experiment()


def run(
    experiment: Experiment | str | Path = DEFAULT_PRESET,
    *,
    name: str | None = None,
    results: str | Path = DEFAULT_RESULTS,
    resume: bool = False,
    on_event: OnEvent | None = None,
    progress: bool = True,
    figures: bool = True,
    workers: int = 1,
    loggers: Sequence[str] = (),
    checkpoint_minutes: float = 10.0,
) -> Run:
    """Train all arms of an experiment, record them, and return the run.

    Args:
        experiment: what :func:`load_experiment` returns, or the name or file of a preset.
        name: the run's name; default: the preset and the time.
        results: the folder that holds the runs.
        resume: if the run of that ``name`` has begun, go on with it.
        on_event: is called with every event: see ``rkkd_cli.train.events``.
        progress: show a progress bar, in a notebook or a terminal.
        figures: draw the figures into the run's folder at the end.
        workers: processes that train the seeds side by side.
        loggers: ``tensorboard``, ``wandb``, ``mlflow``.
        checkpoint_minutes: time between checkpoints within an epoch.

    Warnings go to the logger ``rkkd``. Ctrl-C saves a checkpoint and raises KeyboardInterrupt.
    Raises UserError for what cannot be run, before anything is written, and RunError if the
    training fails.
    """
    if not isinstance(workers, int) or workers < 1:
        raise UserError(f"workers = {workers!r}: must be a whole number from 1 on")
    if on_event is not None and not callable(on_event):
        raise UserError("on_event must be a function that takes an event")
    whole = experiment if isinstance(experiment, Experiment) else load_experiment(experiment)
    out = Path(results)
    loggers = [loggers] if isinstance(loggers, str) else loggers
    if resume and name is None:
        raise UserError("resume=True needs the name of the run to begin or to continue")
    begun = run_to_resume(AUTO if resume else None, name, out)
    run_name = name or new_name(_label(whole), datetime.now().astimezone())
    if begun is None:
        check_free(out, run_name, or_next=name is None)
    check_installed(loggers)
    options = RunOptions(
        checkpoint_minutes, ChosenLoggers(tuple(loggers)), figures, fit_memory=bool(whole.vary)
    )
    places = EngineOptions(workers=workers).at_most(count_jobs(whole))
    engine = make_engine(places, lambda: whole, keep_going=False, process_group=None)
    executor = Executor(engine, options, PythonWatcher(progress, on_event))
    with _keyboard_interrupts():
        if begun is None:
            ended = executor.begin(whole, out, run_name, or_next=name is None)
        else:
            ended = executor.resume(begun, LoadedExperiment(whole))
    assert ended is not None
    return Run(ended.run)


def _label(experiment: Experiment) -> str:
    """Return the name of the preset that an experiment is, or is based on."""
    titled = (p for p in preset_names() if preset_description(p).get("title") == experiment.title)
    return name_from(experiment.based_on.partition(",")[0] or next(titled, ""), 64) or "run"


@contextmanager
def _keyboard_interrupts() -> Iterator[None]:
    """Let Ctrl-C end as everywhere in Python, once a checkpoint is saved."""
    try:
        yield
    except Interrupted as end:
        if end.code == 128 + SIGINT:
            raise KeyboardInterrupt("the run was interrupted; resume=True continues it") from None
        raise
