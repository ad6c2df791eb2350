"""What a training shows: the time that is left, the bars at any width, lines in columns."""

import io
import time
from collections.abc import Iterable

import pytest
from rich.cells import cell_len
from rich.console import Console
from running import EMBEDDING_KEYS

from rkkd_cli.api.run_progress import RunProgress, time_left
from rkkd_cli.cli.output.bars import Bars
from rkkd_cli.cli.output.console import MARGIN, OutputConsole
from rkkd_cli.cli.output.progress import LineReporter, epoch_text
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep.recording.run_state import RunState, Work
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    StreamStarted,
    TeacherBatch,
    TeacherEpoch,
    TeacherReady,
)

EPOCHS, BATCHES = 4, 10


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def run_of(seeds: str, *words: str) -> tuple[Work, Experiment]:
    words = (f"seeds={seeds}", f"training.epochs={EPOCHS}", *words)
    experiment = load_experiment("rank_grad", [parse_override(word) for word in words])
    return RunState(experiment).work(), experiment


def started(work: Work, index: int, epochs_done: int = 0) -> StreamStarted:
    job = work.jobs[index]
    return StreamStarted(job.name, job.seed, job.arms, EPOCHS, BATCHES, epochs_done)


def row(arm: str, epoch: int, seed: int = 0) -> dict[str, object]:
    terms = {"kl": 12.5, "rank": -0.25, "ce": 2.0, "test_acc": 9.5}
    return {"arm": arm, "seed": seed, "epoch": epoch, **terms}


def epoch_done(work: Work, index: int, epoch: int) -> EpochDone:
    job = work.jobs[index]
    rows = tuple(row(arm.name, epoch, job.seed) for arm in job.arms)
    return EpochDone(job.name, job.seed, epoch, rows)


def test_the_time_left_is_that_of_all_seeds(clock: Clock) -> None:
    work, experiment = run_of("[0,1,2]")
    progress = RunProgress.of(work, experiment)
    assert (progress.share_done, progress.seconds_left) == (0, None)
    progress.take(started(work, 0))
    clock.now += 5
    progress.take(BatchDone(work.jobs[0].name, 1, BATCHES // 2))  # half an epoch in 5 s
    assert progress.share_done == pytest.approx(0.5 / 12)
    assert progress.seconds_left == pytest.approx(115)
    for epoch in range(1, EPOCHS + 1):
        clock.now += 5 if epoch == 1 else 10
        progress.take(epoch_done(work, 0, epoch))
    assert progress.share_done == pytest.approx(1 / 3)
    assert progress.seconds_left == pytest.approx(80)
    clock.now += 1000  # while no stream trains, as when another teacher is trained
    assert progress.seconds_left == pytest.approx(80)


def test_side_by_side_the_last_of_three_seeds_waits_for_a_worker(clock: Clock) -> None:
    work, experiment = run_of("[0,1,2]")
    progress = RunProgress.of(work, experiment)
    for index in (0, 1):
        progress.take(started(work, index))
    clock.now += 10
    for index in (0, 1):
        progress.take(epoch_done(work, index, 1))
    assert progress.seconds_left == pytest.approx(30 + 40)


def test_arms_that_end_or_fail_are_not_waited_for(clock: Clock) -> None:
    work, experiment = run_of("[0,1]")
    progress = RunProgress.of(work, experiment)
    progress.take(started(work, 0, epochs_done=2))
    stream, other = work.jobs[0].name, work.jobs[1].name
    clock.now += 10
    progress.take(ArmStopped(stream, "kd", 0, 3, 1, "kl"))
    progress.take(epoch_done(work, 0, 3))  # an epoch of one arm in 10 s
    assert progress.seconds_left == pytest.approx(10 + 80)
    progress.take(EndedEarly(stream, "kd_rank", 0, 3, "val_kl", 1.0, 1))
    progress.take(JobFailed(other, 1, ("kd", "kd_rank"), "no memory"))
    assert (progress.share_done, progress.seconds_left) == (1, 0)


def test_a_time_is_written_in_hours_and_nothing_is_said_when_it_is_over() -> None:
    assert time_left(26 * 3600 + 3 * 60 + 9) == "26:03:09 left"
    assert [time_left(None), time_left(0)] == ["", ""]


def shown(events: Iterable[Event], work: Work, experiment: Experiment, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=False)
    progress = RunProgress.of(work, experiment)
    bars = Bars(console, progress)
    for event in events:
        progress.take(event)
        bars.take(event)
    console.print(bars.render())
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "columns"),
    [(120, "epoch test (%) rank kl ce"), (60, "epoch test (%) rank"), (45, "epoch test (%)")],
)
def test_columns_go_in_the_order_of_their_worth_and_the_bar_stays(
    width: int, columns: str, clock: Clock
) -> None:
    work, experiment = run_of("[0]")
    events: list[Event] = [started(work, 0), epoch_done(work, 0, 1)]
    clock.now += 10
    lines = shown(events, work, experiment, width)
    assert " ".join(lines[0].split()) == columns
    assert all(cell_len(line) + MARGIN <= width for line in lines)
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["seed", "0", a] for a in ("kd", "kd_rank")
    ]
    assert all("━" in line and "9.50" in line for line in lines[1:3])
    assert all("1/4" in line for line in lines[1:3])
    steps: list[Event] = [
        *events,
        BatchDone(work.jobs[0].name, 2, BATCHES),
    ]  # and not yet evaluated
    assert "1/4" in shown(steps, work, experiment, width)[1]
    assert lines[3].startswith("run ")
    assert "25 %" in lines[3]


def test_more_arms_than_lines_are_counted(clock: Clock) -> None:
    words = [f"arms.a{i}.rank.weight=0.{i:02}" for i in range(1, 50)]
    experiment = load_experiment("rank_grad", [parse_override(word) for word in words])
    work = RunState(experiment).work()
    job = work.jobs[0]
    first = StreamStarted(job.name, job.seed, job.arms, EPOCHS, BATCHES)
    lines = shown([first], work, experiment, 80)
    assert len(lines) <= 23
    arms = sum(line.startswith("seed 0 ") for line in lines)
    assert f"… and {len(job.arms) - arms} more arms" in lines
    second = started(work, 1)
    later = shown([first, epoch_done(work, 0, EPOCHS), second], work, experiment, 80)
    assert sum(line.startswith("seed 1 ") for line in later) == arms  # ended ones give way


def test_the_teacher_moves_within_an_epoch_and_goes_when_it_is_ready(clock: Clock) -> None:
    work, experiment = run_of("[0]")
    batches = [TeacherBatch(1, 2, batch, 10) for batch in (1, 6)]
    empty, half = (shown(batches[:n], work, experiment, 80)[1] for n in (1, 2))
    assert "━━━━" in half
    assert "━━━━" not in empty
    epoch = TeacherEpoch(1, 2, "ce", 0.5, 81.25)
    assert "1/2" in shown([epoch], work, experiment, 80)[1]
    assert "81.25" in shown([epoch], work, experiment, 80)[1]
    assert shown([epoch, TeacherReady({})], work, experiment, 80) == []


def test_lines_of_a_log_stand_in_columns_and_are_never_folded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    work, experiment = run_of("[0]")
    console = OutputConsole()
    console.file = io.StringIO()
    reporter = LineReporter(console, RunProgress.of(work, experiment))
    reporter.show(started(work, 0))
    clock.now += 3600
    reporter.show(epoch_done(work, 0, 1))
    numbers = "test   9.50 %  rank -0.2500  kl 12.5000  ce  2.0000  3:00:00 left"
    assert console.file.getvalue().splitlines()[1:] == [
        f"seed 0  kd       epoch 1/4  {numbers}",
        f"seed 0  kd_rank  epoch 1/4  {numbers}",
    ]


def test_a_run_of_embeddings_shows_map_at_r_and_the_triplet_loss(clock: Clock) -> None:
    work, experiment = run_of("[0]", *EMBEDDING_KEYS)
    job, terms = work.jobs[0], {"kl": 12.5, "rank": -0.25, "triplet": 0.125, "test_map_at_r": 61.5}
    rows = [{"arm": arm.name, "seed": 0, "epoch": 1, **terms} for arm in job.arms]
    lines = shown([started(work, 0), EpochDone(job.name, 0, 1, tuple(rows))], work, experiment, 120)
    assert " ".join(lines[0].split()) == "epoch test MAP@R (%) rank kl triplet"
    assert lines[1].split()[-4:] == ["61.50", "-0.2500", "12.5000", "0.1250"]
    text = "epoch 1/4  test MAP@R  61.50 %  rank -0.2500  kl 12.5000  triplet  0.1250"
    assert epoch_text(rows[0], EPOCHS) == text
