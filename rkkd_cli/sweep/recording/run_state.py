"""What a run has done before: the states of its streams, and what is left to do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rkkd_cli.config.arms import Arm, resolve_arms
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import Cell, Job, evenly, grouped, teacher_of
from rkkd_cli.train.checkpoint import misfit
from rkkd_cli.train.lockstep import check_state

State = Mapping[str, Any]
Status = Literal["done", "pending", "failed"]
MostArms = Callable[[tuple[Arm, ...]], int]


class Begun:
    """The newest state of each stream that has one; empty for a new run.

    ``teachers`` is the folder in which the run keeps those that it began with; ``failed`` are the
    cells whose job was given up. Raises RunError for a state that its stream cannot have had.
    """

    def __init__(
        self,
        experiment: Experiment,
        states: Mapping[str, State] | None = None,
        teachers: Path | None = None,
        failed: Collection[Cell] = (),
    ) -> None:
        self.experiment, self.states, self.teachers = experiment, dict(states or {}), teachers
        self.failed = set(failed)
        self.arms = {arm.name: arm for arm in resolve_arms(experiment)}
        jobs = [self._begun_job(name, state) for name, state in self.states.items()]
        self.jobs = {job.name: job for job in sorted(jobs, key=lambda job: job.number)}
        self.owner = {cell: job.name for job in self.jobs.values() for cell in job.cells}
        for job in self.jobs.values():
            if self.is_done(job):
                self.states[job.name] = _without_weights(self.states[job.name])

    def _begun_job(self, name: str, state: State) -> Job:
        lockstep = state["lockstep"]
        try:
            gone = [*lockstep["stopped"], *lockstep.get("ended", ())]
            names = {*lockstep["arms"], *(one["arm"] for one in gone)}
            unknown = names - self.arms.keys()
            if unknown or not names or type(state["seed"]) is not int:
                raise ValueError("its arms are others")
            arms = tuple(arm for arm in self.arms.values() if arm.name in names)
        except (KeyError, TypeError, ValueError) as error:
            raise misfit(name, error) from None
        check_state(name, lockstep, names)
        if len(grouped(arms)) > 1:
            listed = ", ".join(arm.name for arm in arms)
            raise UserError(
                f"{listed} began in lockstep and would no longer share a stream; arms that began "
                "together go on for as many training.epochs"
            )
        return Job(name, state["seed"], arms, state["number"])

    def status(self, cell: Cell) -> Status:
        """Tell how a cell stands."""
        if self._is_among("stopped", cell):
            return "failed"
        if cell in self.owner and self._reached_end(self.jobs[self.owner[cell]]):
            return "done"
        if self._is_among("ended", cell):
            return "done"
        return "failed" if cell in self.failed else "pending"

    def is_done(self, job: Job) -> bool:
        """Tell whether the stream has reached its last epoch, or has no arm left that could."""
        state = self.states.get(job.name)
        return state is not None and (not state["lockstep"]["arms"] or self._reached_end(job))

    def _reached_end(self, job: Job) -> bool:
        done: int = self.states[job.name]["lockstep"]["epochs_done"]
        return done >= job.experiment.training.epochs

    def _is_among(self, gone: Literal["stopped", "ended"], cell: Cell) -> bool:
        """Tell whether the cell's arm has left its stream: it diverged, or ended early."""
        if cell not in self.owner:
            return False
        lockstep = self.states[self.owner[cell]]["lockstep"]
        return cell[0] in {one["arm"] for one in lockstep.get(gone, ())}

    def plan(self, most_arms: MostArms | None = None, retry: bool = False) -> list[Job]:
        """Return the jobs that are left: streams that go on, then new ones.

        ``most_arms`` tells how many of some arms fit into one job; ``retry`` trains the cells that
        failed again, those that diverged from their start.
        """
        given_up = set() if retry else self.failed
        jobs = [
            job
            for job in self.jobs.values()
            if not self.is_done(job) and given_up.isdisjoint(job.cells)
        ]
        taken, number = set(self.jobs), self._next_number()
        for group in grouped(self.arms.values()):
            for seed in self.experiment.seeds:
                cells = {(arm.name, seed): arm for arm in group}
                fresh = [cells[c] for c in cells if c not in self.owner and c not in given_up]
                diverged = [cells[c] for c in cells if retry and self._is_among("stopped", c)]
                for arms, again in ((fresh, False), (diverged, True)):
                    for part in _parts(arms, most_arms):
                        name = _free_name(f"seed-{seed}-{part[0].name}", taken)
                        taken.add(name)
                        jobs.append(Job(name, seed, part, number, again))
                        number += 1
        return jobs

    def _next_number(self) -> int:
        return max((job.number for job in self.jobs.values()), default=-1) + 1

    def rows(self) -> dict[str, str]:
        """Return the vouched rows of each stream, without those of cells that moved to another."""
        rows = {}
        for name in self.jobs:
            lines = self.states[name]["rows"].splitlines(keepends=True)
            rows[name] = "".join(line for line in lines if self._owner_of(line) == name)
        return rows

    def _owner_of(self, line: str) -> str | None:
        cell = cell_of(line)
        return None if cell is None else self.owner.get(cell)

    def check_dataset(self, experiment: Experiment, dataset: str) -> None:
        """Raise UserError where the images are not those that the run began with."""
        begun_with = {
            self.states[job.name]["sources"].get("dataset")
            for job in self.jobs.values()
            if job.experiment.dataset == experiment.dataset
        }
        if begun_with - {dataset}:
            raise UserError(
                f"the images of {experiment.dataset.name} are not those that the run began "
                "with; put them back, or start a new run"
            )

    def check_teacher(self, experiment: Experiment, teacher: str) -> None:
        """Raise UserError where the teacher is not the one that the run began with."""
        begun_with = {
            self.states[job.name]["sources"].get("teacher")
            for job in self.jobs.values()
            if teacher_of(job.experiment) == teacher_of(experiment)
        }
        if begun_with - {teacher}:
            raise UserError(
                f"the teacher {experiment.teacher.model} is not the one that the run began "
                "with; put its checkpoint or the cache back, or start a new run"
            )


def _without_weights(state: State) -> State:
    """Return the state of a stream that has ended without what only training would need."""
    lockstep = state["lockstep"]
    return {**state, "lockstep": {**lockstep, "arms": dict.fromkeys(lockstep["arms"])}}


def cell_of(line: str) -> Cell | None:
    """Return the cell of a line of metrics.csv; None for a line that has none."""
    arm, _, rest = line.partition(",")
    seed = rest.partition(",")[0]
    return (arm, int(seed)) if seed.isascii() and seed.isdigit() else None


def _parts(arms: Sequence[Arm], most_arms: MostArms | None) -> list[tuple[Arm, ...]]:
    if not arms:
        return []
    return evenly(arms, max(1, most_arms(tuple(arms))) if most_arms else len(arms))


def _free_name(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
