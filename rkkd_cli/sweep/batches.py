"""What the batches of an epoch are, and whether the classes are enough for them."""

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.class_batches import per_class
from rkkd_cli.data.stream import batch_slices
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.datasets import dataset_request


def images_per_epoch(recipe: TrainingConfig, images: int) -> int:
    """Return the number of images in the batches of an epoch, of several passes their mean."""
    batches = _pass_batches(recipe, images)
    share = (recipe.batches_per_epoch or len(batches)) / len(batches)
    return round(share * int(batches[-1].stop))


def smallest_batch(recipe: TrainingConfig, images: int) -> int:
    """Return the size of the smallest batch of an epoch, or of a pass over the images."""
    return min(int(batch.stop - batch.start) for batch in _pass_batches(recipe, images))


def _pass_batches(recipe: TrainingConfig, images: int) -> list[slice]:
    """Return the batches of a pass over the images, or of an epoch of classes, in its order."""
    by_class = per_class(recipe.per_class, recipe.batches_per_epoch)
    return batch_slices(images, recipe.batch_size, recipe.last_batch, by_class)


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
