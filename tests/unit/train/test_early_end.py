"""Early stopping: when an arm ends, that no other arm notices, and the same from any moment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trained
from safetensors import safe_open
from safetensors.torch import load
from trained import Arms, checkpoints_of, events_of, going_on, rows_by_arm, rows_of

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.training import StudentTrainingConfig
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.engines.commit_buffer import CommitBuffer
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.early_stopping import EarlyStopping
from rkkd_cli.train.events import Checkpoint, EndedEarly, Event, Retrieved, StudentWeights
from rkkd_cli.train.stop_controller import StopController

EPOCHS = 3
RECIPE = (
    "training.schedule=constant", "teacher.training.epochs=1", "dataset.limit_train=120",
    "dataset.limit_test=50", "dataset.val_share=0.2",
)  # fmt: skip
PATIENT: dict[str, Any] = {"training": {"patience": 1, "min_delta": 200.0}}
OTHERS: dict[str, dict[str, Any]] = {
    "kd_rank": {"rank": {"grad": True}},
    "chosen": {"training": {"monitor": "val_kl"}, "method": {"temperature": 2.0}},
}
STREAM = "seed-0-short"


def experiment_with(arms: Arms, *overrides: str, epochs: int = EPOCHS) -> Experiment:
    words = (*RECIPE, f"training.epochs={epochs}", *overrides)
    return trained.experiment_with(*words, arms=arms)


def last_of(events: list[Event]) -> Checkpoint:
    place, checkpoint = checkpoints_of(events)[-1]
    assert place == len(events) - 1
    return checkpoint


def ends_and_weights(events: list[Event]) -> list[Any]:
    """Return what is recorded beside rows and checkpoints; the weights without their metadata."""
    return [
        (event.arm, event.kind, {n: tensor.tolist() for n, tensor in load(event.content).items()})
        if isinstance(event, StudentWeights)
        else event
        for event in events
        if isinstance(event, EndedEarly | StudentWeights)
    ]


@pytest.mark.parametrize(
    ("monitor", "patience", "min_delta", "values", "best", "end"),
    [
        ("val_acc", 2, 0.0, [1, 3, 2, 3, 4], 2, 4),  # an equal value is not better
        ("val_acc", 2, 0.0, [1, 3, 2, 4, 4, 4], 4, 6),
        ("val_acc", 1, 0.0, [1, 2, 3, 4], 4, None),
        ("val_acc", 2, 1.0, [1, 1.6, 2.2, 2.8, 3], 5, 5),  # 2.2 was the last such one
        ("val_acc", 2, 1.0, [1, 1.6, 1.9], 3, 3),  # the best epoch needs no least distance
        ("val_kl", 2, 0.0, [3, 1, 2, 2], 2, 4),
        ("val_rank", 1, 0.0, [-0.5, -0.6, -0.6], 2, 3),
        ("val_kendall_tau", 1, 0.0, [0.5, 0.6, 0.6], 2, 3),
        ("val_ce", 3, 0.0, [1, 2, 2], 1, None),
    ],
)
def test_patience_counts_from_the_last_epoch_that_was_better_by_enough(
    monitor: str, patience: int, min_delta: float, values: list[float], best: int, end: int | None
) -> None:
    recipe = StudentTrainingConfig(
        epochs=9, lr=0.1, monitor=monitor, patience=patience, min_delta=min_delta
    )
    selection, ends = EarlyStopping(recipe), []
    for epoch, value in enumerate(values, start=1):
        again = EarlyStopping(recipe)
        again.load(json.loads(json.dumps(selection.state())))
        again.update({monitor: value}, epoch)
        selection.update({monitor: value}, epoch)
        assert vars(again) == vars(selection)
        ends += [epoch] if selection.is_exhausted(epoch) else []
        if ends:
            break
    assert selection.best is not None
    assert selection.best[1] == best
    assert ends == ([] if end is None else [end])


@pytest.mark.parametrize("stacked", [False, True])
def test_an_arm_that_ends_early_changes_no_number_of_another(stacked: bool, cache: Path) -> None:
    arms = {"short": PATIENT} | OTHERS
    both = events_of(experiment_with(arms, f"stacked={str(stacked).lower()}"), cache)
    alone = events_of(experiment_with(OTHERS), cache)
    rows, expected = rows_by_arm(both), rows_by_arm(alone)
    assert [row["epoch"] for row in rows.pop("short")] == [1, 2]
    for arm, its in expected.items():
        assert [row["epoch"] for row in rows[arm]] == [1, 2, 3]
        if stacked:  # rounding
            wanted = [pytest.approx(row["kl"], rel=2e-3) for row in its]
            assert [row["kl"] for row in rows[arm]] == wanted
    assert stacked or rows == expected
    (ended,) = [event for event in both if isinstance(event, EndedEarly)]
    assert (ended.arm, ended.epoch, ended.monitor) == ("short", 2, "val_acc")


@pytest.mark.slow
def test_from_a_checkpoint_at_any_moment_the_same_rows_ends_and_weights_follow(cache: Path) -> None:
    experiment = experiment_with({"short": PATIENT} | OTHERS)
    undisturbed = events_of(experiment, cache)
    events = events_of(experiment, cache, controller=StopController(0))
    assert rows_of(events) == rows_of(undisturbed)
    assert ends_and_weights(events) == ends_and_weights(undisturbed)
    assert len(checkpoints_of(events)) > 3 * EPOCHS
    for place, checkpoint in checkpoints_of(events):
        later = events_of(experiment, cache, going_on(checkpoint))
        assert rows_of(events[:place]) + rows_of(later) == rows_of(undisturbed)
        both = ends_and_weights(events[:place]) + ends_and_weights(later)
        assert both == ends_and_weights(undisturbed)


def test_a_stream_whose_arms_have_all_ended_early_is_done(cache: Path) -> None:
    experiment = experiment_with({"short": PATIENT})
    begun = RunState(experiment, going_on(last_of(events_of(experiment, cache))))
    assert begun.status(("short", 0)) == "done"
    assert not begun.work(retry=True).jobs


def test_more_epochs_give_what_they_had_given_at_once_also_where_patience_ends_with_the_last(
    cache: Path,
) -> None:
    arms = {"short": PATIENT, "kd": {}}
    short, long = experiment_with(arms, epochs=2), experiment_with(arms)
    before = events_of(short, cache)
    assert not any(isinstance(event, EndedEarly) for event in before)  # it is at its end anyway
    later = events_of(long, cache, going_on(last_of(before)))
    assert rows_of(before) + rows_of(later) == rows_of(events_of(long, cache))


def test_weights_of_the_best_and_of_the_last_epoch_say_what_they_are(
    cache: Path, tmp_path: Path
) -> None:
    experiment = experiment_with({"short": PATIENT} | OTHERS)
    recorder = Recorder(experiment, tmp_path, "run", "cpu")
    events = events_of(experiment, cache, at_each=recorder.take)
    recorder.close("finished")
    assert recorder.run is not None
    manifest = recorder.run.read_manifest()
    assert manifest.monitors == {"short": "val_acc", "chosen": "val_kl"}
    assert [(one["arm"], one["epoch"]) for one in manifest.ended_early] == [("short", 2)]
    assert manifest.stopped == []
    files = sorted(path.name for path in (tmp_path / "run/best").iterdir())
    assert files == ["chosen-seed0.safetensors", "short-seed0.safetensors"]
    best = min(rows_by_arm(events)["chosen"], key=lambda row: row["val_kl"])
    with safe_open(recorder.run.weights("best", "chosen", 0), "pt") as file:
        facts = file.metadata()
    assert facts["rkkd.epoch"] == str(best["epoch"])
    assert float(facts["rkkd.value"]) == best["val_kl"]
    assert facts["rkkd.model"] == "digits_student"
    for arm, rows in rows_by_arm(events).items():
        with safe_open(recorder.run.weights("final", arm, 0), "pt") as file:
            facts = file.metadata()
        assert facts["rkkd.epoch"] == str(rows[-1]["epoch"])  # of ``short`` an early one
        assert float(facts["rkkd.test_acc"]) == rows[-1]["test_acc"]


def test_a_worker_that_dies_takes_early_ends_and_weights_with_it(cache: Path) -> None:
    experiment = experiment_with({"short": PATIENT})
    job = Job(STREAM, 0, RunState(experiment).work().jobs[0].arms, 0)
    buffer = CommitBuffer(RunState(experiment).states, keep_going=False)
    ended = EndedEarly(STREAM, "short", 0, 2, "val_acc", 50.0, 1)
    best = StudentWeights(STREAM, "short", 0, "best", b"")
    found = Retrieved(STREAM, "short", 0, 2, np.zeros((1, 1, 1, 4, 4), np.uint8), np.array([["a"]]))
    assert [e for event in (best, ended, found) for e in buffer.take(job, event)] == []
    list(buffer.handle_death(job, "gone"))
    assert list(buffer.take(job, Checkpoint(STREAM, {}))) == [Checkpoint(STREAM, {})]
    assert [*buffer.take(job, best), *buffer.take(job, ended)] == []
    kept = list(buffer.take(job, Checkpoint(STREAM, {})))
    assert kept == [best, ended, Checkpoint(STREAM, {})]


@pytest.mark.parametrize("broken", [{"ended": [{}]}, {"ended": 1}])
def test_a_state_with_a_senseless_end_is_refused(broken: dict[str, Any], cache: Path) -> None:
    experiment = experiment_with({"short": PATIENT})
    states = going_on(last_of(events_of(experiment, cache)))
    states[STREAM]["lockstep"] |= broken
    with pytest.raises((RunError, UserError), match="checkpoint"):
        RunState(experiment, states)
