"""Where a teacher comes from: a checkpoint file, the cache, or its own training."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from rkkd_cli.config.experiment import Experiment, Training
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.models import Classifier, build_model, load_checkpoint
from rkkd_cli.train.device import autocast
from rkkd_cli.train.events import Event, Note, TeacherEpoch, TeacherReady
from rkkd_cli.train.randomness import Randomness
from rkkd_cli.train.recipe import build_optimizer, learning_rate, set_learning_rate
from rkkd_cli.train.teacher import Teacher, freeze, measured_facts
from rkkd_cli.train.teacher_store import TeacherStore, file_sha256, teacher_key
from rkkd_cli.train.totals import Totals

Facts = dict[str, Any]


def obtain_teacher(
    experiment: Experiment, dataset: Dataset, device: torch.device, cache: Path
) -> Generator[Event, None, Teacher]:
    """Return the experiment's teacher; yields events while it is trained, and when it is ready.

    Raises UserError for a checkpoint that does not fit, RunError when training diverges.
    """
    if experiment.teacher.checkpoint is not None:
        path = Path(experiment.teacher.checkpoint).expanduser()
        model = new_teacher(experiment, dataset, device)
        load_checkpoint(model, path)
        origin = {"source": "checkpoint", "sha256": file_sha256(path)}
        teacher, facts = _frozen(model, experiment, dataset, device)
    else:
        teacher, facts, origin = yield from _trained_or_cached(experiment, dataset, device, cache)
    yield TeacherReady(facts | origin)
    return teacher


def _trained_or_cached(
    experiment: Experiment, dataset: Dataset, device: torch.device, cache: Path
) -> Generator[Event, None, tuple[Teacher, Facts, Facts]]:
    """Return the teacher, its measured facts, and where it came from."""
    recipe, store = required_recipe(experiment), TeacherStore(cache)
    key = teacher_key(experiment, dataset)
    model = new_teacher(experiment, dataset, device)
    sha256 = store.load(key, model)
    if sha256 is not None:
        teacher, facts = _frozen(model, experiment, dataset, device)
        return teacher, facts, {"source": "cache", "sha256": sha256, "key": key}
    yield Note(f"training the teacher {experiment.teacher.model} for {recipe.epochs} epochs")
    yield from _train(model, experiment, dataset, device)
    teacher, facts = _frozen(model, experiment, dataset, device)
    sha256 = store.save(key, model, facts | _training_facts(experiment, dataset))
    return teacher, facts, {"source": "trained", "sha256": sha256, "key": key}


def new_teacher(experiment: Experiment, dataset: Dataset, device: torch.device) -> Classifier:
    """Return the teacher's model with the first weights of its seed."""
    settings = experiment.teacher
    with Randomness(derive_seed(settings.seed, "teacher"), device).active():
        model = build_model(settings.model, len(dataset.classes), dataset.in_channels)
    return model.to(device).to(memory_format=torch.channels_last)


def required_recipe(experiment: Experiment) -> Training:
    """Return the teacher's recipe. Raises UserError where there is none."""
    if experiment.teacher.training is None:
        raise UserError(
            "the teacher has neither a recipe nor a checkpoint; give --teacher-checkpoint FILE "
            "or a section teacher.training"
        )
    return experiment.teacher.training


def _train(
    model: Classifier, experiment: Experiment, dataset: Dataset, device: torch.device
) -> Generator[Event, None, None]:
    """Train on hard labels by the teacher's own recipe."""
    recipe, seed = required_recipe(experiment), experiment.teacher.seed
    stream = Stream(dataset, device, recipe.batch_size, derive_seed(seed, "teacher-stream"))
    optimizer = build_optimizer(model, recipe)
    randomness = Randomness(derive_seed(seed, "teacher-noise"), device)
    model.train()
    for epoch in range(1, recipe.epochs + 1):
        totals = Totals(("ce",), ("acc",), device)
        for step, batch in enumerate(stream.epoch(epoch)):
            set_learning_rate(optimizer, learning_rate(recipe, epoch - 1 + step / len(stream)))
            with randomness.active():
                with autocast(device, experiment.precision):
                    logits = model(batch.images)
                loss = F.cross_entropy(logits.float(), batch.labels)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
            hits = (logits.argmax(dim=1) == batch.labels).sum()
            totals.add({"ce": loss, "acc": hits}, len(batch.labels))
        bad, means = totals.first_non_finite(), totals.averages()
        if bad is not None:
            raise RunError(
                f"the teacher's training diverged at epoch {epoch}, step {bad.step}: {bad.term} "
                "is not finite; try a lower teacher.training.lr"
            )
        yield TeacherEpoch(epoch, recipe.epochs, means["ce"], means["acc"])


def _frozen(
    model: Classifier, experiment: Experiment, dataset: Dataset, device: torch.device
) -> tuple[Teacher, Facts]:
    """Return the model as a teacher, and what was measured of it."""
    classes, channels = len(dataset.classes), dataset.in_channels
    teacher = freeze(model, device, experiment.precision, classes, channels)
    test = DeviceImages(dataset.test, dataset, device)
    return teacher, measured_facts(teacher, experiment.teacher.model, test)


def _training_facts(experiment: Experiment, dataset: Dataset) -> Facts:
    """Return what is kept beside the weights, for `rkkd teacher ls`."""
    recipe = required_recipe(experiment)
    return {
        "dataset": dataset.name,
        "train_images": len(dataset.train),
        "epochs": recipe.epochs,
        "recipe": recipe.model_dump(mode="json"),
        "seed": experiment.teacher.seed,
        "torch": torch.__version__,
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
    }
