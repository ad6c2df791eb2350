"""The weights that a detector begins with: those of a whole detector, or of its backbone alone."""

from collections.abc import Sequence
from pathlib import Path

from torchvision.models import get_model_weights

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.models.checkpoint.load import ReplacedHead
from rkkd_cli.models.detection.backbone_weights import load_backbone_file
from rkkd_cli.models.detection.build import backbone_of
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.models.detection.published import (
    category_numbers,
    file_columns,
    load_detector,
    networks_in,
    numbers_by_name,
    published_categories,
    published_detector,
    read_detector_file,
)
from rkkd_cli.models.detection.two_stage import TwoStage
from rkkd_cli.models.external.published_weights import PRETRAINED, PublishedWeights
from rkkd_cli.models.first_weights import LoadedWeights, WeightsSource, find_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL_SIZE = (800, 800)  # of images; a detector takes any


class OnlyBackbone(ReplacedHead):
    """Of a detector that begins with a classifier's weights: all but its backbone."""

    def __str__(self) -> str:
        return "all but its backbone begins with random weights"


def find_detector_weights(model: str, name: str) -> WeightsSource:
    """Return the source of a detector's weights by a file's name, ``pretrained``, or torchvision's.

    Its ``model`` is the detector, or the backbone if the weights are a classifier's.

    Raises UserError if there are no such weights; the message names those that there are.
    """
    path, backbone = Path(name).expanduser(), backbone_of(model)
    published = published_detector(model, name)
    if published is not None:
        classes, file = len(category_numbers()), published.file
        weights = PublishedWeights(
            published.name, file, classes, USUAL_SIZE, IMAGENET_MEAN, IMAGENET_STD
        )
        return WeightsSource(model, name, file.path, weights)
    if path.is_file():
        return WeightsSource(model, name, path)
    if backbone is None:
        raise UserError(
            f"there is no file {path}, and weights of {model} are a file: that of detectron2's "
            "model zoo"
        )
    library, _, rest = model.partition(":")
    if library == "torchvision" and len(path.parts) == 1 and not path.suffix:
        known = [get_model_weights(of) for of in (rest, backbone.partition(":")[2])]
        choices = [entry.name for of in known for entry in of]
        if name.rpartition(".")[2] not in choices:
            raise unknown_name(f"weights of {model}", name, [PRETRAINED, *choices])
    return find_weights(backbone, name)


def replaced_before_download(
    source: WeightsSource, model: str, class_names: Sequence[str]
) -> ReplacedHead | None:
    """Return what of a detector published weights will leave random, as far as that is known."""
    if source.published is None:
        return None
    if source.model != model:
        return OnlyBackbone("", 0, len(class_names))
    if numbers_by_name(class_names) is not None:
        return None
    return ReplacedHead("", source.published.classes, len(class_names))


def load_detector_weights(
    detector: Detector, source: WeightsSource, class_names: Sequence[str]
) -> LoadedWeights:
    """Load the weights of a whole detector, or of a classifier into its backbone.

    The columns of a file that was trained on COCO are those of the classes by their names, if all
    are COCO's. Otherwise the layers of other classes stay the detector's own.

    Nothing in the file is executed. Raises UserError if it does not fit; the detector does not
    change then.
    """
    weights = read_detector_file(source.path)
    counts = [file_columns(network) for network in networks_in(weights)]
    if not counts:
        load_backbone_file(detector, source, weights)
        return LoadedWeights(source, weights, OnlyBackbone("", 0, detector.num_classes))
    own = detector.num_classes + isinstance(detector, TwoStage)
    of_coco = len(published_categories()), 1 + len(category_numbers())
    numbers = None
    if own not in counts and counts[0] in of_coco:
        numbers = numbers_by_name(class_names)
    replaced = load_detector(detector, weights, source.model, numbers, keep_head=True)
    return LoadedWeights(source, weights, replaced)
