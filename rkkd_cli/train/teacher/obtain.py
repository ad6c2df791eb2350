"""Where a teacher comes from: a checkpoint file, the cache, or its own training."""

import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.data.streaming.pool import ImageError
from rkkd_cli.files import try_lock
from rkkd_cli.models import Classifier, build_model, load_checkpoint
from rkkd_cli.train.checkpoint import CheckpointStore, misfit
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.events import Event, Note, TeacherEpoch, TeacherReady, Tick
from rkkd_cli.train.rng import Randomness
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.model import Teacher, freeze, measured_facts
from rkkd_cli.train.teacher.store import TeacherStore, file_sha256, size_text, teacher_key
from rkkd_cli.train.teacher.training import TeacherTraining, required_recipe

POLL_SECONDS = 0.5

TRAIN, READY = "train", "ready"  # what rank 0 sends the others of the teacher

Facts = dict[str, Any]


def obtain_teacher(
    experiment: Experiment, dataset: Dataset, runtime: Runtime, kept: Path | None = None
) -> Generator[Event, None, tuple[Teacher, TeacherReady]]:
    """Return the experiment's teacher and the event that tells of it; yields its training.

    ``kept`` is a folder like the cache, where a run keeps the teacher that it began with. Of
    several ranks the first one reads and writes; all of them train. From now on the device
    computes in the experiment's precision.

    Raises:
        UserError: a checkpoint does not fit.
        RunError: the training diverged.
        Stopped: the runtime's controller was asked to stop.

    """
    use_precision(runtime.device, experiment.precision)
    process_group = runtime.process_group
    if process_group.is_first:
        teacher, ready = yield from _load_or_train(experiment, dataset, runtime, kept)
        process_group.send(READY)
    else:
        teacher, ready = yield from _follow_first_rank(experiment, dataset, runtime)
    process_group.all_reduce([], list(teacher.model.state_dict().values()))
    return teacher, ready


def _load_or_train(
    experiment: Experiment, dataset: Dataset, runtime: Runtime, kept: Path | None
) -> Generator[Event, None, tuple[Teacher, TeacherReady]]:
    """Return the teacher of the checkpoint file, of a folder, or of a training here."""
    if experiment.teacher.checkpoint is not None:
        path = Path(experiment.teacher.checkpoint).expanduser()
        model = new_teacher(experiment, dataset, runtime.device)
        load_checkpoint(model, path)
        origin = {"source": "checkpoint", "sha256": file_sha256(path)}
        teacher, facts = _measured(model, experiment, dataset, runtime.device)
        return teacher, TeacherReady(facts | origin)
    required_recipe(experiment)
    for folder in (kept, runtime.cache):
        stored = _load_stored(experiment, dataset, runtime.device, folder) if folder else None
        if stored is not None:
            teacher, facts = stored
            return teacher, TeacherReady(facts, folder)
    teacher, facts = yield from _train_and_store(experiment, dataset, runtime)
    return teacher, TeacherReady(facts, runtime.cache)


def _follow_first_rank(
    experiment: Experiment, dataset: Dataset, runtime: Runtime
) -> Generator[Event, None, tuple[Teacher, TeacherReady]]:
    """Return a teacher whose weights rank 0 has; help to train it if that is needed."""
    model = new_teacher(experiment, dataset, runtime.device)
    if runtime.process_group.receive() == TRAIN:
        training = TeacherTraining(
            model, experiment, dataset, runtime.device, runtime.process_group
        )
        checkpoints = TeacherStore(runtime.cache).checkpoints(teacher_key(experiment, dataset))
        yield from _train(training, checkpoints, runtime.controller)
        runtime.process_group.receive()
    return _freeze(model, experiment, dataset, runtime.device), TeacherReady({})


def _load_stored(
    experiment: Experiment, dataset: Dataset, device: torch.device, folder: Path
) -> tuple[Teacher, Facts] | None:
    """Return the teacher that is stored in the folder, if it is, and its facts."""
    model, key = new_teacher(experiment, dataset, device), teacher_key(experiment, dataset)
    sha256 = TeacherStore(folder).load(key, model)
    if sha256 is None:
        return None
    teacher, measured = _measured(model, experiment, dataset, device)
    return teacher, measured | {"source": "cache", "sha256": sha256, "key": key}


def _train_and_store(
    experiment: Experiment, dataset: Dataset, runtime: Runtime
) -> Generator[Event, None, tuple[Teacher, Facts]]:
    """Train the teacher and store it in the cache; return it with its facts.

    Only one process trains a teacher; others wait for it and then find it stored.
    """
    store, key = TeacherStore(runtime.cache), teacher_key(experiment, dataset)
    device, process_group = runtime.device, runtime.process_group
    lock = yield from _lock_when_free(store.lock_path(key))
    try:
        stored = _load_stored(experiment, dataset, device, runtime.cache)
        if stored is not None:
            return stored
        store.remove_leftovers(key)
        model = new_teacher(experiment, dataset, device)
        process_group.send(TRAIN)
        training = TeacherTraining(model, experiment, dataset, device, process_group)
        yield from _train(training, store.checkpoints(key), runtime.controller)
        teacher, measured = _measured(model, experiment, dataset, device)
        further = _training_facts(experiment, dataset, process_group.world_size)
        sha256 = store.save(key, model, measured | further)
        store.checkpoints(key).remove()
        return teacher, measured | {"source": "trained", "sha256": sha256, "key": key}
    finally:
        lock.release()


def _lock_when_free(path: Path) -> Generator[Event, None, BaseFileLock]:
    """Return the lock, taken; wait for whoever holds it."""
    lock = try_lock(path)
    if lock is None:
        yield Note("another process trains this teacher; waiting for it")
    while lock is None:
        time.sleep(POLL_SECONDS)
        yield Tick()
        lock = try_lock(path)
    return lock


def _train(
    training: TeacherTraining, checkpoints: CheckpointStore, controller: StopController
) -> Generator[Event, None, None]:
    """Train from the last checkpoint, if there is one, to the end; keep one at a broken image."""
    yield from _load_state(training, checkpoints)

    def keep() -> None:
        if training.is_finite():
            state = training.state()
            if training.process_group.is_first:
                checkpoints.save(state)

    with controller.graceful():
        try:
            for event in training.train():
                yield event
                if controller.should_checkpoint(isinstance(event, TeacherEpoch)):
                    keep()
                    controller.raise_if_stopped()
        except ImageError:
            if training.process_group.world_size == 1:  # the others cannot know
                keep()
            raise


def _load_state(training: TeacherTraining, checkpoints: CheckpointStore) -> Iterator[Note]:
    """Go back to the last checkpoint, if there is one of as many ranks and this kind of device."""
    what, process_group = f"the teacher {training.name}", training.process_group
    loaded = checkpoints.load() if process_group.is_first else None
    for path in loaded.damaged if loaded else ():
        yield Note(f"checkpoint {path} of {what} is damaged; using the previous one")
    state = None if loaded is None else loaded.state
    if state is not None:
        there = state.get("device", training.device), state.get("ranks", 1)
        state = state if there == (training.device, process_group.world_size) else None
    state = process_group.broadcast(state)
    if state is not None:
        try:
            training.load(state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise misfit(f"{what} in {checkpoints.folder}", error) from None
        yield Note(f"training {what} on after {training.progress}")
    else:
        yield Note(f"training {what} for {training.recipe.epochs} epochs")


def new_teacher(experiment: Experiment, dataset: Dataset, device: torch.device) -> Classifier:
    """Return the teacher's model with the first weights of its seed."""
    config = experiment.teacher
    with Randomness(derive_seed(config.seed, "teacher"), device).active():
        model = build_model(
            config.model, len(dataset.classes), dataset.in_channels, dataset.image_size
        )
    return model.to(device).to(memory_format=torch.channels_last)


def _measured(
    model: Classifier, experiment: Experiment, dataset: Dataset, device: torch.device
) -> tuple[Teacher, Facts]:
    """Return the model as a teacher, and what was measured of it."""
    teacher = _freeze(model, experiment, dataset, device)
    test = DeviceImages(dataset.test, dataset, device)
    return teacher, measured_facts(teacher, experiment.teacher.model, test)


def _freeze(
    model: Classifier, experiment: Experiment, dataset: Dataset, device: torch.device
) -> Teacher:
    classes, channels = len(dataset.classes), dataset.in_channels
    return freeze(model, device, experiment.precision, classes, channels, dataset.image_size)


def _training_facts(experiment: Experiment, dataset: Dataset, world_size: int) -> Facts:
    """Return what is stored beside the weights, for `rkkd teacher ls`."""
    recipe = required_recipe(experiment)
    return {
        "dataset": dataset.name,
        "train_images": len(dataset.train),
        "classes": len(dataset.classes),
        "channels": dataset.in_channels,
        "image_size": size_text(dataset.image_size),
        "epochs": recipe.epochs,
        "recipe": recipe.model_dump(mode="json"),
        "seed": experiment.teacher.seed,
        "ranks": world_size,
        "torch": torch.__version__,
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
    }
