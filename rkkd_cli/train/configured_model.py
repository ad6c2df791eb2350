"""A model as a section of the experiment describes it: its input, and its first weights."""

from collections.abc import Sequence
from typing import Any

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.tasks import detector_kind
from rkkd_cli.data.model_input import ImageFormat, ModelInput
from rkkd_cli.errors import UserError
from rkkd_cli.files import files_sha256
from rkkd_cli.models import Classifier, build_model
from rkkd_cli.models.checkpoint.read import weight_files
from rkkd_cli.models.detection.build import build_detector
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.models.detection.first_weights import (
    find_detector_weights,
    load_detector_weights,
)
from rkkd_cli.models.features import with_unit_outputs
from rkkd_cli.models.first_weights import (
    LoadedWeights,
    WeightsSource,
    fetch_weights,
    find_weights,
    load_first_weights,
    published_weights,
)

Facts = dict[str, Any]


def weights_source(config: ModelConfig) -> WeightsSource | None:
    """Return where the model's first weights come from, None for random ones. Raises UserError."""
    if config.weights is None:
        return None
    find = find_weights if detector_kind(config.model) is None else find_detector_weights
    return find(config.model, config.weights)


def model_input(config: ModelConfig, images: ImageFormat) -> ModelInput:
    """Return how the model takes the images of a stream.

    What the experiment does not say belongs to the weights, if a library has published them, or is
    that of the stream. Raises UserError for another number of channels.
    """
    for key, values in (("mean", config.mean), ("std", config.std)):
        if values is not None and len(values) != images.channels:
            raise UserError(
                f"{config.role}.{key} has {len(values)} value{'s' * (len(values) > 1)}, and the "
                f"images have {images.channels} channel{'s' * (images.channels > 1)}"
            )
    is_resized = detector_kind(config.model) is None  # detectors take images of any size
    published = None
    if config.weights and is_resized:
        published = published_weights(config.model, config.weights)
    own = images
    if published is not None:
        own = own._replace(size=published.size)
        if len(published.mean) == images.channels:
            own = own._replace(mean=published.mean, std=published.std)
    if config.image_size is not None:
        own = own._replace(size=(config.image_size, config.image_size))
    return ModelInput(images, own._replace(mean=config.mean or own.mean, std=config.std or own.std))


def new_model(config: ModelConfig, classes: int, own: ImageFormat) -> Classifier:
    """Return the model for images of its own format, with random weights."""
    if detector_kind(config.model) is not None:
        return build_detector(
            config.model,
            classes,
            config.given_options,
            in_channels=own.channels,
            pretrained=config.weights is not None,
        )
    outputs = config.outputs(classes)
    model = build_model(config.model, outputs, own.channels, own.size, config.given_options)
    return with_unit_outputs(model) if config.normalize else model


def load_weights(
    model: Classifier,
    config: ModelConfig,
    classes: int,
    own: ImageFormat,
    class_names: Sequence[str] = (),
) -> LoadedWeights | None:
    """Load the first weights of the experiment, if it names any, into a model of its own format.

    A detector's columns are found by ``class_names``.

    Raises UserError if they do not fit, RunError if they cannot be downloaded.
    """
    source = weights_source(config)
    if source is None:
        return None
    fetched = fetch_weights(source)
    if isinstance(model, Detector):
        return load_detector_weights(model, fetched, class_names)
    return load_first_weights(model, fetched, config.outputs(classes), own.channels, own.size)


def untrained(arm: Arm, images: ImageFormat) -> Arm:
    """Return the arm with a student of random weights that takes the same images.

    Nothing is read or downloaded for it.
    """
    student, own = arm.experiment.student, model_input(arm.experiment.student, images).own
    size = None if own.size == images.size else own.size[0]
    update = {"weights": None, "image_size": size, "mean": own.mean, "std": own.std}
    student = student.model_copy(update=update)
    return arm._replace(experiment=arm.experiment.model_copy(update={"student": student}))


def weights_sha256(config: ModelConfig) -> str | None:
    """Return the SHA-256 of the file of the first weights; None for random weights."""
    source = weights_source(config)
    if source is None:
        return None
    return files_sha256(weight_files(fetch_weights(source).path))


def weights_facts(loaded: LoadedWeights) -> Facts:
    """Return what the manifest says of a model's first weights."""
    facts: Facts = {
        "name": loaded.source.label,
        "source": loaded.source.origin,
        "sha256": files_sha256(loaded.weights.files),
    }
    head = loaded.replaced_head
    return facts | ({"note": str(head)} if head else {})


def input_facts(model_input: ModelInput) -> Facts:
    """Return what the manifest says of a model's input; nothing if it is the dataset's images."""
    if model_input.is_same:
        return {}
    own = model_input.own
    return {"input": {"image_size": list(own.size), "mean": list(own.mean), "std": list(own.std)}}
