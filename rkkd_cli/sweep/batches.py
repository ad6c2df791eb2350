"""What the batches of an epoch are, and whether the classes are enough for them."""

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.class_batches import per_class
from rkkd_cli.data.stream import batch_slices
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.datasets import dataset_request


def epoch_batches(recipe: TrainingConfig, images: int) -> list[slice]:
    """Return the batches of an epoch as slices of its order."""
    by_class = per_class(recipe.per_class, recipe.batches_per_epoch)
    return batch_slices(images, recipe.batch_size, recipe.last_batch, by_class)


def smallest_batch(recipe: TrainingConfig, images: int) -> int:
    """Return the size of the smallest batch of an epoch."""
    return min(int(batch.stop - batch.start) for batch in epoch_batches(recipe, images))


def check_classes(experiment: Experiment, dataset: DatasetInfo) -> None:
    """Raise UserError for classes that the task cannot tell, or too few for a batch."""
    if experiment.task == "detection":
        return
    request = dataset_request(experiment)
    if experiment.task == "classification" and request.is_split_by_class:
        way_out = ", or leave out dataset.classes" if request.classes else ""
        raise UserError(
            f"{request.name} is tested on classes that are not trained on, which task = "
            f"'classification' cannot predict; set task = 'embedding'{way_out}"
        )
    if experiment.task == "embedding" and dataset.test_classes < 2:
        raise UserError(
            "all test images are of one class, so that everything that is found is right; test on "
            "two classes or more"
        )
    _check_batch("training", experiment.training, dataset.train_classes)
    for section, teacher in experiment.teacher_sections.items():
        if teacher.training is not None:
            _check_batch(f"{section}.training", teacher.training, dataset.train_classes)


def _check_batch(section: str, recipe: TrainingConfig, classes: int) -> None:
    needed = recipe.batch_size // (recipe.per_class or recipe.batch_size)
    if needed > classes:
        raise UserError(
            f"{section}.batch_size = {recipe.batch_size} with per_class = {recipe.per_class} needs "
            f"{needed} classes, and {classes} are trained on; take a batch size of at most "
            f"{classes * (recipe.per_class or 1)}"
        )
