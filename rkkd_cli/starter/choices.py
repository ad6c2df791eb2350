"""What a starter preset sets for a folder of images, key by key, each with its reason."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.data.folder_facts import FolderFacts
from rkkd_cli.starter.chosen_models import PRETRAINED, ChosenModel
from rkkd_cli.starter.sizes import PHOTOGRAPH, Scale, scale_for

RESIDENT_BYTES = 2**30  # decoded images up to here are held in memory; a run needs twice that
MANY_IMAGES = 20_000  # to train on: fewer epochs and seeds beyond
MANY_CLASSES = 1000  # whose pairs are many: the ranking loss then takes an image's top ones
TOP_CLASSES = "top:64"
BATCHES_PER_EPOCH = 10  # at least, or the batches are made smaller
SMALLEST_BATCH = 8


class Choice(NamedTuple):
    """A key of the experiment, its value, and why: sentences, empty where its section says it."""

    key: str
    value: Any
    why: str = ""


def choices(
    facts: FolderFacts,
    root: str,
    student: ChosenModel,
    teacher: ChosenModel,
    usual: Mapping[str, Any],
) -> list[Choice]:
    """Return the keys of the preset, section by section.

    ``usual`` is the table of the preset for images in general, whose recipe, method and ranking
    loss are taken where the folder gives no reason for others.
    """
    scale = scale_for(facts.headers, student.name)
    training = [*_training(facts, scale, usual["training"])]
    return [
        Choice("title", f"{Path(root).name}: does the ranking loss help {student.name}?"),
        _seeds(facts, usual["seeds"]),
        *_dataset(facts, root, scale),
        *_model("teacher", teacher, scale),
        *(Choice(one.key.replace("training.", "teacher.training."), one.value) for one in training),
        *_model("student", student, scale),
        *training,
        *_method(usual["method"]),
        *_rank(facts, usual["rank"]),
    ]


def _seeds(facts: FolderFacts, usual: list[int]) -> Choice:
    if facts.train > MANY_IMAGES:
        usual = usual[:3]
    return Choice(
        "seeds",
        usual,
        f"Students trained of each arm: {len(usual)}. Fewer than three give no verdict; more "
        "resolve smaller differences.",
    )


def _dataset(facts: FolderFacts, root: str, scale: Scale) -> Iterator[Choice]:
    yield Choice("dataset.name", "folder", "Images of your own, a folder for each class.")
    yield Choice("dataset.root", root, "As seen from the folder in which rkkd runs.")
    yield Choice("dataset.image_size", scale.side, _size_text(facts, scale))
    if scale.is_small:
        yield Choice(
            "dataset.resize", "crop", "An image that is not square is cut to its middle square."
        )
        yield Choice(
            "dataset.crop_padding",
            max(1, scale.side // 8),
            "Training images are shifted by up to an eighth of their size.",
        )
    else:
        yield Choice(
            "dataset.crop",
            "resized",
            "Training images are crops of random area and shape, as usual for photographs.",
        )
    yield Choice(
        "dataset.flip",
        True,
        "Half of the training images are mirrored. Choose false where left and right differ, as in "
        "digits, letters or traffic signs.",
    )
    yield from _held_out(facts)
    yield _streaming(facts, scale)


def _size_text(facts: FolderFacts, scale: Scale) -> str:
    sizes = facts.headers.sizes
    ((width, height), _), *others = sizes.most_common()
    if others:
        low, high = min(min(size) for size in sizes), max(max(size) for size in sizes)
        had = (
            f"The images have sides from {low} to {high} pixels; half of them have a shorter side "
            f"of {facts.headers.typical_side} or more."
        )
    else:
        had = f"All images are {width}×{height} pixels."
    grey = " All are grey, and are read as colour images of three equal channels."
    is_grey = facts.headers.grey == sizes.total()
    stay = not others and (width, height) == (scale.side, scale.side)
    made = "They stay so" if stay else f"They are made {scale.side}×{scale.side}"
    return f"{had}{grey * is_grey} {made}; larger is slower."


def _held_out(facts: FolderFacts) -> Iterator[Choice]:
    test = f"The {facts.test:,} images of {facts.own_test}/ are tested on: nothing is held out."
    if facts.own_test is None:
        test = f"{facts.test:,} images are held out to test on, the same share of each class."
    yield Choice("dataset.test_share", facts.test_share, test)
    if facts.own_test is None:
        yield Choice("dataset.split_seed", 0, "Another number holds out other images.")
    val = f'{facts.val:,} of the others validate: training.monitor = "val_acc" selects epochs.'
    if facts.has_own_val:
        val = f"The {facts.val:,} validation images of the folder are used: nothing is held out."
    elif not facts.val_share:
        val = "There are too few images to hold some of each class out for validation."
    yield Choice("dataset.val_share", facts.val_share, val)


def _streaming(facts: FolderFacts, scale: Scale) -> Choice:
    size = 3 * scale.side**2 * facts.images
    text = f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
    if size <= RESIDENT_BYTES:
        why = f"Decoded, the images take {text}: they are held in memory."
    else:
        why = f"Decoded, the images would take {text}: each batch is read from the disk."
    return Choice("dataset.streaming", size > RESIDENT_BYTES, why)


def _model(role: str, model: ChosenModel, scale: Scale) -> Iterator[Choice]:
    is_fresh = model.is_of_library and model.weights is None
    yield Choice(f"{role}.model", model.name, model.why + PRETRAINED * is_fresh)
    if model.options:
        yield Choice(f"{role}.options", dict(model.options), "Those that its file says.")
    if model.weights is not None:
        yield Choice(f"{role}.weights", model.weights, "The weights that it begins with.")
    elif is_fresh and scale.side < PHOTOGRAPH:
        yield Choice(
            f"{role}.image_size",
            PHOTOGRAPH,
            f"It is made for images of {PHOTOGRAPH} pixels: those of the dataset are resampled.",
        )


def _training(facts: FolderFacts, scale: Scale, usual: Mapping[str, Any]) -> Iterator[Choice]:
    recipe = scale.recipe
    batch, many = _batch_size(facts.train, recipe.largest_batch), facts.train > MANY_IMAGES
    epochs = usual["epochs"] // 2 if many else usual["epochs"]
    yield Choice(
        "training.epochs",
        epochs,
        f"{epochs} passes over {facts.train:,} training images. Published recipes for small images "
        "have 240; --dry-run estimates the time.",
    )
    steps = -(-facts.train // batch)
    yield Choice(
        "training.batch_size",
        batch,
        f"{steps:,} steps an epoch. A GPU is faster with larger batches: scale lr with them.",
    )
    yield Choice(
        "training.lr",
        round(recipe.lr * batch / recipe.lr_batch, 7),
        f"{recipe.lr} for {recipe.lr_batch} images is {recipe.source}; here in proportion to the "
        "batch. "
        'Transformers want optimizer = "adamw" and lr = 5e-4 for 512 images.',
    )
    yield Choice("training.weight_decay", recipe.weight_decay, "From the same recipe.")
    yield Choice("training.schedule", usual["schedule"], "How the learning rate falls.")
    yield Choice(
        "training.milestones",
        usual["milestones"],
        "Shares of the epochs, after which the learning rate is a tenth of before.",
    )


def _batch_size(images: int, largest: int) -> int:
    sizes = (size for size in (64, 32, 16) if size <= largest)
    batch = next((size for size in sizes if images >= BATCHES_PER_EPOCH * size), SMALLEST_BATCH)
    return min(batch, images)


def _method(usual: Mapping[str, Any]) -> Iterator[Choice]:
    yield Choice(
        "method.name",
        usual["name"],
        "What both arms optimise: the cross-entropy of the labels, and KL to the teacher. Others: "
        "rkkd ls methods.",
    )
    yield Choice(
        "method.alpha", usual["alpha"], "Weight of KL; cross-entropy gets the rest to 1. Usual."
    )
    yield Choice("method.temperature", usual["temperature"], "Of KL. Usual; higher is softer.")


def _rank(facts: FolderFacts, usual: Mapping[str, Any]) -> Iterator[Choice]:
    yield Choice(
        "rank.weight",
        usual["weight"],
        "Of the ranking loss in arm kd_rank. arXiv 2409.17823 gives it the weight of KL.",
    )
    yield Choice("rank.steepness", usual["steepness"], "The best one of the same paper.")
    why = f"The order of all {facts.classes:,} classes is compared."
    channels = "all"
    if facts.classes == 2:
        why += " Two classes have one pair: it only says which of them is more probable."
    if facts.classes > MANY_CLASSES:
        channels = TOP_CLASSES
        why = (
            f"Of {facts.classes:,} classes an image's 64 most probable: pairs grow as their square."
        )
    yield Choice("rank.channels", channels, why)
