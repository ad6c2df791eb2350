"""Gets a teacher from its weights, from the cache, or by training it."""

import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.on_device import AnyDataset, split_on_device
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.streaming.loader import ImageError
from rkkd_cli.files import remove_leftovers, try_lock
from rkkd_cli.models import Classifier
from rkkd_cli.models.first_weights import LoadedWeights
from rkkd_cli.tasks import task_for
from rkkd_cli.train.checkpoint import CheckpointStore, misfit_error
from rkkd_cli.train.configured_model import (
    input_facts,
    load_weights,
    model_input,
    new_model,
    weights_facts,
)
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.distributed.process_group import ProcessGroup
from rkkd_cli.train.events import Event, Note, TeacherEpoch, TeacherReady, Tick
from rkkd_cli.train.rng import IsolatedRng
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.model import Teacher, chance_notes, freeze, measure_teacher
from rkkd_cli.train.teacher.preprocessing import (
    check_class_order,
    differences,
    preprocessing_facts,
)
from rkkd_cli.train.teacher.safetensors_files import recorded_facts
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key
from rkkd_cli.train.teacher.training import TeacherTraining, required_recipe

POLL_SECONDS = 0.5

Facts = dict[str, Any]
Obtained = tuple[Teacher, TeacherReady]


def obtain_teacher(
    experiment: Experiment, dataset: AnyDataset, runtime: Runtime, run_folder: Path | None = None
) -> Generator[Event, None, Obtained]:
    """Return the experiment's teacher and the event that announces it; yields its training.

    ``run_folder`` is the folder of a run that has begun, which holds its teacher as the cache does.
    Of several ranks, rank 0 reads and writes, and all train. From here on the device computes in
    the experiment's precision.

    Raises:
        UserError: weights do not fit, or their head is replaced and there is no recipe.
        RunError: the training diverged.
        Stopped: the runtime's controller was asked to stop.

    """
    use_precision(runtime.device, experiment.precision)
    process_group = runtime.process_group
    obtained = None
    if process_group.is_first:
        obtained = _load(experiment, dataset, runtime, run_folder)
    if process_group.broadcast(obtained is None):
        obtained = yield from _train_and_store(experiment, dataset, runtime)
    if obtained is None:  # on another rank
        model = _untrained_teacher(experiment, dataset, runtime.device)
        obtained = _freeze(model, experiment, dataset, runtime.device), TeacherReady({})
    teacher, ready = obtained
    process_group.broadcast_tensors(list(teacher.model.state_dict().values()))
    return teacher, process_group.broadcast(ready)


def _load(
    experiment: Experiment, dataset: AnyDataset, runtime: Runtime, run_folder: Path | None
) -> Obtained | None:
    """Return the teacher of weights that fit, or of a folder, or None if it has to be trained."""
    model, loaded = new_teacher(experiment, dataset, runtime.device)
    if loaded is not None and loaded.replaced_head is None:
        return _use_as_it_is(model, loaded, experiment, dataset, runtime.device)
    required_recipe(experiment, loaded.replaced_head if loaded else None)
    for folder in (run_folder, runtime.cache):
        stored = _load_stored(experiment, dataset, runtime.device, folder) if folder else None
        if stored is not None:
            return stored
    return None


def _use_as_it_is(
    model: Classifier,
    loaded: LoadedWeights,
    experiment: Experiment,
    dataset: AnyDataset,
    device: torch.device,
) -> Obtained:
    path = loaded.source.path
    recorded = recorded_facts(path, loaded.weights.metadata)
    check_class_order(path, recorded, dataset.classes, dataset.name)
    teacher, facts = _freeze_and_measure(model, experiment, dataset, device)
    weights = weights_facts(loaded)
    origin = {"source": "checkpoint", "sha256": weights["sha256"], "weights": weights}
    notes = differences(recorded, dataset, teacher.input.own) + chance_notes(facts)
    return teacher, TeacherReady(facts | origin | {"notes": notes})


def _load_stored(
    experiment: Experiment, dataset: AnyDataset, device: torch.device, folder: Path
) -> Obtained | None:
    """Return the teacher that is stored in the folder, if it is."""
    model = _untrained_teacher(experiment, dataset, device)
    key = teacher_key(experiment, dataset)
    store = TeacherStore(folder)
    sha256 = store.load(key, model)
    if sha256 is None:
        return None
    teacher, facts = _freeze_and_measure(model, experiment, dataset, device)
    stored = store.facts(key)
    facts |= {key: stored[key] for key in ("weights",) if key in stored}
    origin = {"source": "cache", "sha256": sha256, "key": key}
    notes = chance_notes(facts, is_trained_here=True)
    return teacher, TeacherReady(facts | origin | {"notes": notes}, folder)


def _train_and_store(
    experiment: Experiment, dataset: AnyDataset, runtime: Runtime
) -> Generator[Event, None, Obtained | None]:
    """Train the teacher; rank 0 stores it in the cache and returns it, other ranks return None.

    Only one program trains a teacher; others wait for it and then find it stored.
    """
    store, key = TeacherStore(runtime.cache), teacher_key(experiment, dataset)
    device, process_group = runtime.device, runtime.process_group
    lock = yield from _acquire_lock(store.lock_path(key), process_group)
    try:
        stored = _load_stored(experiment, dataset, device, runtime.cache) if lock else None
        if process_group.broadcast(stored is not None):
            return stored
        if lock:
            remove_leftovers(store.folder / key)
        model, loaded = new_teacher(experiment, dataset, device)
        if loaded is not None:
            yield Note(f"the teacher {loaded}")
        training = TeacherTraining(model, experiment, dataset, device, process_group)
        yield from _train(training, store.checkpoints(key), runtime.controller)
        if lock is None:
            return None
        teacher, facts = _freeze_and_measure(model, experiment, dataset, device)
        facts |= {"weights": weights_facts(loaded)} if loaded else {}
        training_facts = _training_facts(experiment, dataset, process_group.world_size)
        sha256 = store.save(key, model, facts | training_facts)
        store.checkpoints(key).remove()
        origin = {"source": "trained", "sha256": sha256, "key": key}
        notes = chance_notes(facts, is_trained_here=True)
        return teacher, TeacherReady(facts | origin | {"notes": notes}, runtime.cache)
    finally:
        if lock:
            lock.release()


def _acquire_lock(
    path: Path, process_group: ProcessGroup
) -> Generator[Event, None, BaseFileLock | None]:
    """Wait for the program that holds the lock; return it, acquired, on rank 0."""
    is_first = process_group.is_first
    lock = try_lock(path) if is_first else None
    if is_first and lock is None:
        yield Note("another process trains this teacher; waiting for it")
    while not process_group.broadcast(lock is not None):
        time.sleep(POLL_SECONDS)
        yield Tick()
        lock = try_lock(path) if is_first else None
    return lock


def _train(
    training: TeacherTraining, checkpoints: CheckpointStore, controller: StopController
) -> Generator[Event, None, None]:
    """Train to the end, from the last checkpoint if there is one.

    Saves checkpoints when they are due, and before a damaged image stops the training.
    """
    yield from _resume(training, checkpoints)

    def save_checkpoint() -> None:
        if training.is_finite():
            state = training.state()
            if training.process_group.is_first:
                checkpoints.save(state)

    with controller.graceful():
        try:
            for event in training.train():
                yield event
                if controller.should_checkpoint(isinstance(event, TeacherEpoch)):
                    save_checkpoint()
                    controller.raise_if_stopped()
        except ImageError:
            if training.process_group.world_size == 1:  # other ranks would not take part
                save_checkpoint()
                controller.raise_if_stopped()  # the signal may have ended the decoders, too
            raise


def _resume(training: TeacherTraining, checkpoints: CheckpointStore) -> Iterator[Note]:
    """Load the last checkpoint, if there is one from as many ranks and this type of device."""
    name, process_group = f"the teacher {training.name}", training.process_group
    loaded = checkpoints.load() if process_group.is_first else None
    for path in loaded.damaged if loaded else ():
        yield Note(f"checkpoint {path} of {name} is damaged; using the previous one")
    state = None if loaded is None else loaded.state
    if state is not None:
        origin = state.get("device", training.device_type), state.get("ranks", 1)
        state = state if origin == (training.device_type, process_group.world_size) else None
    state = process_group.broadcast(state)
    if state is not None:
        try:
            training.load(state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise misfit_error(
                name, error, f"remove {checkpoints.folder} to train it from the start again"
            ) from None
        yield Note(f"training {name} on after {training.progress}")
    else:
        yield Note(f"training {name} for {training.recipe.epochs} epochs")


def new_teacher(
    experiment: Experiment, dataset: AnyDataset, device: torch.device
) -> tuple[Classifier, LoadedWeights | None]:
    """Return the teacher's model with its first weights: those of its seed, if it names none."""
    model, config = _untrained_teacher(experiment, dataset, device), experiment.teacher
    own = model_input(config, dataset.image_format).own
    return model, load_weights(model, config, len(dataset.classes), own, dataset.classes)


def _untrained_teacher(
    experiment: Experiment, dataset: AnyDataset, device: torch.device
) -> Classifier:
    """Return the teacher's model with the random weights of its seed."""
    config = experiment.teacher
    own = model_input(config, dataset.image_format).own
    with IsolatedRng(derive_seed(config.seed, "teacher"), device).active():
        model = new_model(config, len(dataset.classes), own)
    return model.to(device).to(memory_format=torch.channels_last)


def _freeze_and_measure(
    model: Classifier, experiment: Experiment, dataset: AnyDataset, device: torch.device
) -> tuple[Teacher, Facts]:
    """Return the model as a teacher, with its accuracy and size."""
    teacher = _freeze(model, experiment, dataset, device)
    test = split_on_device(dataset.test, dataset, device)
    config = experiment.teacher
    facts = measure_teacher(teacher, config.model, config.given_options, test)
    return teacher, facts | input_facts(teacher.input)


def _freeze(
    model: Classifier, experiment: Experiment, dataset: AnyDataset, device: torch.device
) -> Teacher:
    return freeze(
        model,
        device,
        precision=experiment.precision,
        num_classes=len(dataset.classes),
        model_input=model_input(experiment.teacher, dataset.image_format),
        task=task_for(experiment),
        class_names=dataset.classes,
    )


def _training_facts(experiment: Experiment, dataset: AnyDataset, world_size: int) -> Facts:
    """Return what is stored beside the weights, for `rkkd teacher ls`."""
    recipe = required_recipe(experiment)
    return {
        "dataset": dataset.name,
        "train_images": len(dataset.train),
        "classes": len(dataset.classes),
        **experiment.teacher.embedding_facts,
        **preprocessing_facts(dataset, model_input(experiment.teacher, dataset.image_format)),
        "epochs": recipe.epochs,
        "recipe": recipe.model_dump(mode="json"),
        "seed": experiment.teacher.seed,
        "ranks": world_size,
        "torch": torch.__version__,
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
    }
