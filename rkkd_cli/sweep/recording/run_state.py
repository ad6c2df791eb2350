"""What a run has done so far: the states of its streams, and the work that is left."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import Cell, Job, SourcesKey, group_by_stream, sources_key, split_evenly
from rkkd_cli.train.checkpoint import misfit_error
from rkkd_cli.train.events import ArmStopped, EndedEarly

State = Mapping[str, Any]
Status = Literal["done", "pending", "failed"]
MaxArms = Callable[[tuple[Arm, ...]], int]


class Origin:
    """The images and teachers that a run began with. It continues with the same ones only.

    ``teachers`` is the folder in which the run keeps the teachers that it has trained.
    """

    def __init__(
        self, jobs: Iterable[tuple[Job, State]] = (), teachers: Path | None = None
    ) -> None:
        self.teachers = teachers
        self.fingerprints: dict[object, set[str | None]] = {}
        for job, state in jobs:
            key, sources = sources_key(job.experiment), state["sources"]
            self.fingerprints.setdefault(key.dataset, set()).add(sources.get("dataset"))
            self.fingerprints.setdefault(key, set()).add(sources.get("teacher"))

    def check_dataset(self, experiment: Experiment, fingerprint: str) -> None:
        """Raise UserError if the images are not those that the run began with."""
        if self.fingerprints.get(experiment.dataset, set()) - {fingerprint}:
            raise UserError(
                f"the images of {experiment.dataset.name} are not those that the run began "
                "with; put them back, or start a new run"
            )

    def check_teacher(self, experiment: Experiment, fingerprint: str) -> None:
        """Raise UserError if the teacher, or one of several, is not that which the run began with.

        ``fingerprint`` is that of all teachers.
        """
        if self.fingerprints.get(sources_key(experiment), set()) - {fingerprint}:
            which = f"the teacher {experiment.teacher.model} is not the one"
            if experiment.teachers:
                which = f"one of the teachers {', '.join(experiment.teachers)} is not the one"
            raise UserError(
                f"{which} that the run began with; put its checkpoint or the cache back, or start "
                "a new run"
            )


@dataclass(frozen=True)
class Work:
    """What an engine gets: jobs, the states from which jobs resume, and their origin."""

    jobs: tuple[Job, ...]
    states: Mapping[str, State] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    def by_sources(self) -> Iterator[tuple[SourcesKey, list[Job]]]:
        """Yield groups of successive jobs with the same images and the same teacher."""
        for key, jobs in groupby(self.jobs, key=lambda job: sources_key(job.experiment)):
            yield key, list(jobs)


class RunState:
    """What a run has done: the newest state of each of its streams; none for a new run.

    ``teachers`` is the folder in which the run keeps its teachers. ``failed`` are the cells whose
    job was given up. Raises RunError for a state that its stream cannot have had.
    """

    def __init__(
        self,
        experiment: Experiment,
        states: Mapping[str, State] | None = None,
        teachers: Path | None = None,
        failed: Collection[Cell] = (),
    ) -> None:
        self.experiment, self.states, self.failed = experiment, dict(states or {}), set(failed)
        self.arms = {arm.name: arm for arm in experiment.resolved_arms}
        jobs = [self._job_of(name, state) for name, state in self.states.items()]
        self.jobs = {job.name: job for job in sorted(jobs, key=lambda job: job.number)}
        self.owner = {cell: job.name for job in self.jobs.values() for cell in job.cells}
        self.origin = Origin([(job, self.states[job.name]) for job in self.jobs.values()], teachers)
        for job in self.jobs.values():
            if self.is_done(job):
                self.states[job.name] = _without_weights(self.states[job.name])

    def _job_of(self, name: str, state: State) -> Job:
        """Return the job of a stream that has a state. Raises UserError for arms that differ."""
        lockstep = state["lockstep"]
        try:
            dropped = [*lockstep["stopped"], *lockstep.get("ended", ())]
            names = {*lockstep["arms"], *(event["arm"] for event in dropped)}
            unknown = names - self.arms.keys()
            if unknown or not names or type(state["seed"]) is not int:
                raise ValueError("it has other arms")
            arms = tuple(arm for arm in self.arms.values() if arm.name in names)
        except (KeyError, TypeError, ValueError) as error:
            raise misfit_error(name, error) from None
        _check_state(name, lockstep, names)
        if len(group_by_stream(arms)) > 1:
            listed = ", ".join(arm.name for arm in arms)
            raise UserError(
                f"{listed} began in lockstep and would no longer share a stream; arms that began "
                "together need equal training.epochs"
            )
        return Job(name, state["seed"], arms, state["number"])

    def status(self, cell: Cell) -> Status:
        """Return the status of a cell."""
        if self._has_event("stopped", cell):
            return "failed"
        if cell in self.owner and self._reached_end(self.jobs[self.owner[cell]]):
            return "done"
        if self._has_event("ended", cell):
            return "done"
        return "failed" if cell in self.failed else "pending"

    def is_done(self, job: Job) -> bool:
        """Tell whether the stream has reached its last epoch, or has no active arm left."""
        state = self.states.get(job.name)
        return state is not None and (not state["lockstep"]["arms"] or self._reached_end(job))

    def _reached_end(self, job: Job) -> bool:
        epochs_done: int = self.states[job.name]["lockstep"]["epochs_done"]
        return epochs_done >= job.experiment.training.epochs

    def _has_event(self, key: Literal["stopped", "ended"], cell: Cell) -> bool:
        """Tell whether the cell has diverged (``stopped``) or ended early."""
        if cell not in self.owner:
            return False
        events = self.states[self.owner[cell]]["lockstep"].get(key, ())
        return cell[0] in {event["arm"] for event in events}

    def stopped(self) -> list[ArmStopped]:
        """Return the arms that diverged and have not been trained again."""
        events = [ArmStopped(**event) for event in self._recorded_events("stopped")]
        return [event for event in events if self._is_owner(event)]

    def ended_early(self) -> list[EndedEarly]:
        """Return the arms that early stopping ended before their last epoch."""
        events = [EndedEarly(**event) for event in self._recorded_events("ended")]
        epochs = {n: arm.experiment.training.epochs for n, arm in self.arms.items()}
        return [e for e in events if self._is_owner(e) and e.epoch < epochs[e.arm]]

    def _recorded_events(self, key: str) -> list[dict[str, Any]]:
        states = self.states.values()
        return [event for state in states for event in state["lockstep"].get(key, ())]

    def _is_owner(self, event: ArmStopped | EndedEarly) -> bool:
        return self.owner[event.arm, event.seed] == event.stream

    def work(self, max_arms: MaxArms | None = None, retry: bool = False) -> Work:
        """Return what is left: streams that continue, then new ones.

        ``max_arms`` returns how many of some arms fit into one job. ``retry`` trains failed cells
        again; those that diverged start from their first weights.
        """
        given_up = set() if retry else self.failed
        jobs = [
            job
            for job in self.jobs.values()
            if not self.is_done(job) and given_up.isdisjoint(job.cells)
        ]
        names = set(self.jobs)
        number = max((job.number for job in self.jobs.values()), default=-1) + 1
        for group in group_by_stream(self.arms.values()):
            for seed in self.experiment.seeds:
                cells = {(arm.name, seed): arm for arm in group}
                new = [cells[c] for c in cells if c not in self.owner and c not in given_up]
                diverged = [cells[c] for c in cells if retry and self._has_event("stopped", c)]
                for arms, is_retry in ((new, False), (diverged, True)):
                    for part in _split_to_fit(arms, max_arms):
                        name = _unused_name(f"seed-{seed}-{part[0].name}", names)
                        names.add(name)
                        jobs.append(Job(name, seed, part, number, is_retry))
                        number += 1
        return Work(tuple(jobs), self.states, self.origin)

    def rows(self) -> dict[str, str]:
        """Return the checkpointed rows of each stream, without cells that another one owns now."""
        rows = {}
        for name in self.jobs:
            lines = self.states[name]["rows"].splitlines(keepends=True)
            rows[name] = "".join(line for line in lines if self._owner_of(line) == name)
        return rows

    def _owner_of(self, line: str) -> str | None:
        cell = cell_of(line)
        return None if cell is None else self.owner.get(cell)


def _check_state(name: str, state: Mapping[str, Any], arms: Collection[str]) -> None:
    """Raise RunError unless a stream with these arms can have had this state."""
    try:
        dropped = [ArmStopped(**event).arm for event in state["stopped"]]
        dropped += [EndedEarly(**event).arm for event in state.get("ended", ())]
        epochs_done, batches_done = state["epochs_done"], state["batches_done"]
        batches = state["batches"]
        if any(type(count) is not int for count in (epochs_done, batches_done, batches)):
            raise TypeError("its position is not an integer")
        if not (epochs_done >= 0 and 0 <= batches_done <= batches):
            raise ValueError(f"batch {batches_done} of {batches} after epoch {epochs_done}")
        if sorted([*state["arms"], *dropped]) != sorted(arms):
            raise ValueError("it has other arms")
        if not state["seconds"] >= 0:
            raise ValueError("its time is negative")
        if type(state["stacked"]) is not bool:
            raise TypeError("it does not say whether its arms are stacked")
    except (KeyError, TypeError, ValueError) as error:
        raise misfit_error(name, error) from None


def _without_weights(state: State) -> State:
    """Return the state of a finished stream without what only further training would need."""
    lockstep = state["lockstep"]
    return {**state, "lockstep": {**lockstep, "arms": dict.fromkeys(lockstep["arms"])}}


def cell_of(line: str) -> Cell | None:
    """Return the cell of a line of metrics.csv; None for a malformed line."""
    arm, _, rest = line.partition(",")
    seed = rest.partition(",")[0]
    return (arm, int(seed)) if seed.isascii() and seed.isdigit() else None


def _split_to_fit(arms: Sequence[Arm], max_arms: MaxArms | None) -> list[tuple[Arm, ...]]:
    if not arms:
        return []
    return split_evenly(arms, max(1, max_arms(tuple(arms))) if max_arms else len(arms))


def _unused_name(name: str, used: Collection[str]) -> str:
    """Return the name, or the first free one of ``name-2``, ``name-3`` and so on."""
    suffix, unused = 1, name
    while unused in used:
        suffix += 1
        unused = f"{name}-{suffix}"
    return unused
