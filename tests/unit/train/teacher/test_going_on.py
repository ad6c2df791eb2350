"""A teacher that is left at any moment ends as the same file; one process trains it."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import trained
from trained import CPU, NEVER, notes_of
from weights import through_a_file

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import to_toml
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.checkpoint import CheckpointStore, is_intact
from rkkd_cli.train.events import Event, TeacherEpoch, TeacherReady, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController, Stopped
from rkkd_cli.train.teacher.obtain import new_teacher
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key
from rkkd_cli.train.teacher.training import TeacherTraining

DIVERGING = "teacher.training.lr=1e30"


def experiment_with(*overrides: str) -> Experiment:
    return trained.experiment_with("teacher.model=cnn2", "dataset.crop_padding=1", *overrides)


def prepare(
    cache: Path,
    controller: StopController,
    at_each: Callable[[Event], object] = type,
    *changes: str,
) -> list[Event]:
    """Train the teacher to its end, or to where ``controller`` stops it."""
    events = []
    with suppress(Stopped):
        for event in prepare_teacher(experiment_with(*changes), Runtime(CPU, cache, controller)):
            events.append(event)
            at_each(event)
    return events


def store_of(cache: Path, *changes: str) -> CheckpointStore:
    experiment = experiment_with(*changes)
    dataset = load_dataset(dataset_request(experiment), cache)
    return TeacherStore(cache).checkpoints(teacher_key(experiment, dataset))


def facts_of(events: list[Event]) -> dict[str, Any]:
    (ready,) = [event for event in events if isinstance(event, TeacherReady)]
    return ready.facts


def stop_at(cache: Path, progress: int) -> list[Event]:
    """Leave the training at its ``progress``-th step or end of an epoch, from 1."""
    controller, seen = StopController(NEVER), [0]

    def ask(event: Event) -> None:
        seen[0] += controller.is_graceful and isinstance(event, Tick | TeacherEpoch)
        controller.stop_requested = seen[0] >= progress

    return prepare(cache, controller, ask)


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the file of the teacher has that is never stopped."""
    return str(facts_of(prepare(tmp_path_factory.mktemp("alone"), StopController(NEVER)))["sha256"])


def bits(value: Any) -> Any:
    """Return the value with each tensor as its type and its bytes."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: bits(one) for key, one in value.items()}
    return [bits(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_from_the_state_at_any_batch_the_training_ends_with_the_same_weights(
    optimizer: str,
) -> None:
    experiment = experiment_with(f"teacher.training.optimizer={optimizer}")
    dataset = load_dataset(dataset_request(experiment), Path("unused"))

    def fresh() -> TeacherTraining:
        return TeacherTraining(new_teacher(experiment, dataset, CPU)[0], experiment, dataset, CPU)

    alone = fresh()
    states = [through_a_file(alone.state())]
    states += [through_a_file(alone.state()) for _ in alone.train()]
    assert len(states) == 1 + 2 * (4 + 1)
    for state in states:
        training = fresh()
        for parameter in training.trained.model.parameters():
            torch.nn.init.normal_(parameter)
        torch.rand(5)
        training.load(through_a_file(state))
        assert bits(training.state()) == bits(state)
        for _ in training.train():
            pass
        assert bits(training.state()) == bits(states[-1])


@pytest.mark.parametrize("progress", range(1, 11))
def test_a_teacher_that_is_left_at_any_moment_goes_on_to_the_same_file(
    progress: int, tmp_path: Path, sha256: str
) -> None:
    events = stop_at(tmp_path, progress)
    assert not any(isinstance(event, TeacherReady) for event in events)
    loaded = store_of(tmp_path).load()
    assert loaded is not None
    assert TeacherStore(tmp_path).list() == []
    later = prepare(tmp_path, StopController(NEVER))
    epochs, batches = divmod(progress, 5)
    and_batches = f" and {batches} batches" if batches else ""
    assert f"training the teacher cnn2 on after epoch {epochs}{and_batches}" in notes_of(later)
    both = [event.epoch for event in events + later if isinstance(event, TeacherEpoch)]
    assert both == [1, 2]
    assert facts_of(later)["sha256"] == sha256
    assert facts_of(later)["source"] == "trained"
    assert not store_of(tmp_path).folder.exists()


def test_a_teacher_that_is_stopped_at_every_step_is_the_same_one(
    tmp_path: Path, sha256: str
) -> None:
    for _ in range(2 * (4 + 1)):
        assert not any(isinstance(event, TeacherReady) for event in stop_at(tmp_path, 1))
    events = prepare(tmp_path, StopController(0))
    assert not any(isinstance(event, TeacherEpoch) for event in events)
    assert facts_of(events)["sha256"] == sha256


def test_a_damaged_checkpoint_is_named_and_the_previous_one_is_used_and_kept(
    tmp_path: Path, sha256: str
) -> None:
    seen: list[list[bool]] = []

    def look(event: Event) -> None:
        if isinstance(event, Tick | TeacherEpoch):
            seen.append([is_intact(path) for path in store_of(tmp_path).paths()])
        if len(seen) == 9:
            raise Stopped  # as a process that is killed: without another checkpoint

    prepare(tmp_path, StopController(0), look)
    newest = store_of(tmp_path).paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    seen.clear()
    later = prepare(tmp_path, StopController(0), look)
    assert facts_of(later)["sha256"] == sha256
    named = any(newest.name in note for note in notes_of(later))
    assert (named, seen[1]) == (True, [True, True])  # seen[1]: after one more was written


def test_where_all_its_checkpoints_are_damaged_a_sentence_names_them_and_the_way_out(
    tmp_path: Path, sha256: str
) -> None:
    stop_at(tmp_path, 6)
    store = store_of(tmp_path)
    for path in store.paths():
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"is damaged .*remove the folder"):
        prepare(tmp_path, StopController(NEVER))
    store.remove()
    assert facts_of(prepare(tmp_path, StopController(NEVER)))["sha256"] == sha256


FOREIGN: dict[str, dict[str, Any]] = {
    "empty": {},
    "another network": {"epochs_done": 0, "batches_done": 0, "trained": {"model": {}}},
    "a number": {"epochs_done": 0, "batches_done": 0, "trained": 3},
}


@pytest.mark.parametrize("form", FOREIGN)
def test_a_checkpoint_of_something_else_is_named_with_a_way_out(form: str, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.save(FOREIGN[form])
    with pytest.raises((RunError, UserError), match="remove") as refused:
        prepare(tmp_path, StopController(NEVER))
    assert str(store.folder) in str(refused.value)


def test_a_teacher_that_diverges_says_the_same_with_and_without_checkpoints(
    tmp_path: Path,
) -> None:
    sentences = set()
    for cache, minutes in (("a", NEVER), ("b", 0), ("b", 0), ("b", NEVER)):
        with pytest.raises(RunError, match=r"diverged at epoch 1, step \d: ce is not") as error:
            prepare(tmp_path / cache, StopController(minutes), type, DIVERGING)
        sentences.add(str(error.value))
    assert len(sentences) == 1
    assert store_of(tmp_path / "a", DIVERGING).load() is None
    kept = store_of(tmp_path / "b", DIVERGING).load()
    assert kept is not None
    assert bool(torch.isfinite(kept.state["trained"]["meters"]["sums"]).all())


TRAINER = """
import sys
from pathlib import Path
import torch
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.events import TeacherEpoch, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
torch.set_num_threads(1)
cache, epochs = Path(sys.argv[1]), 0
runtime = Runtime(torch.device("cpu"), cache, StopController(1e9))
for event in prepare_teacher(read_experiment(cache / "experiment.toml"), runtime):
    epochs += isinstance(event, TeacherEpoch)
    if epochs == 1 and isinstance(event, Tick):
        print("in the second epoch", flush=True)
        sys.stdin.readline()
        epochs = 9
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_a_second_process_waits_and_then_finds_it_cached_or_goes_on_with_it(
    end: str, tmp_path: Path, sha256: str
) -> None:
    (tmp_path / "experiment.toml").write_text(to_toml(experiment_with()), encoding="utf-8")
    command = [sys.executable, "-c", TRAINER, str(tmp_path)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "in the second epoch\n"
        waited: list[Event] = []
        ends = {"finishes": first.stdin.close, "is killed": first.kill}

        def look(event: Event) -> None:
            waited.append(event)
            if waited.count(Tick()) == 2 and isinstance(event, Tick):
                ends[end]()

        later = prepare(tmp_path, StopController(NEVER), look)
        assert (first.wait(60) == 0) == (end == "finishes")
    assert "another process trains this teacher; waiting for it" in notes_of(later)
    epochs = [event.epoch for event in later if isinstance(event, TeacherEpoch)]
    assert epochs == ([] if end == "finishes" else [2])
    assert facts_of(later)["source"] == ("cache" if end == "finishes" else "trained")
    assert facts_of(later)["sha256"] == sha256
    weights = tmp_path / "teachers" / facts_of(later)["key"] / "weights.pt"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == sha256
