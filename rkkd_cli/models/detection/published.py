"""The weights that torchvision publishes of its detectors, and files that fit a detector.

A published detector has a column for each number of COCO's categories, 0 to 90, of which 80 are
used. A detector of a dataset has one for each of its classes.
"""

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, candidate_views, read_weights
from rkkd_cli.models.checkpoint.load import (
    BATCH_COUNTER,
    MAY_BE_NO_WEIGHTS,
    ReplacedHead,
    find_misfit,
    load_fitted,
)
from rkkd_cli.models.detection.array_pickle import read_array_pickle
from rkkd_cli.models.detection.build import TORCHVISION
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.models.detection.detectron2 import (
    computes_as_detectron2,
    from_detectron2,
    is_detectron2,
)
from rkkd_cli.models.detection.two_stage import TwoStage
from rkkd_cli.models.external.downloads import Download, from_torch_hub
from rkkd_cli.models.external.published_weights import PRETRAINED

CLASS_SCORES = "roi_heads.box_predictor.cls_score."
CLASS_BOXES = "roi_heads.box_predictor.bbox_pred."
ANCHOR_SCORES = "head.classification_head.cls_logits."
ANCHOR_BOXES = "head.regression_head.bbox_reg.bias"
BOX = 4  # numbers of a box
PICKLE = ".pkl"  # as detectron2 names its files
NO_DETECTOR = "has no weights of a Faster R-CNN, RetinaNet or FCOS of torchvision or detectron2"
UNUSED = ("__background__", "N/A")  # categories of columns that no object has

# Names in torchvision's files of before its version 0.12, and those of today.
RENAMED: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), lambda m: f"{m[1]}.0.0.{m[2]}"),
    (
        re.compile(r"^(head\.(?:classification|regression)_head\.conv)\.(\d)\.(weight|bias)$"),
        lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}",
    ),
)
# Of these weights torchvision sets the epsilon of frozen BatchNorm to 0.
WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")


class PublishedDetector(NamedTuple):
    """Weights of a detector that torchvision publishes.

    ``categories`` are the names of the columns, the first of which is the background, and "N/A"
    those without a category.
    """

    name: str
    file: Download
    categories: tuple[str, ...]


def published_detector(name: str, weights: str) -> PublishedDetector | None:
    """Return the weights of ``torchvision:NAME`` by torchvision's name of them, or ``pretrained``.

    None for another detector, or a name that torchvision does not know.
    """
    source, _, rest = name.partition(":")
    if source != "torchvision" or rest not in TORCHVISION:
        return None
    known = get_model_weights(rest)
    member = weights.removeprefix(f"{known.__name__}.")
    member = "DEFAULT" if member == PRETRAINED else member
    if member not in known.__members__:
        return None
    entry: Any = known[member]
    return PublishedDetector(entry.name, from_torch_hub(entry.url), tuple(entry.meta["categories"]))


def read_detector_file(path: Path) -> CheckpointWeights:
    """Return the weights in a file of torchvision, of our own, or a pickle of detectron2.

    Raises UserError for a file without weights. Nothing in it is executed.
    """
    if path.suffix == PICKLE and path.is_file() and not zipfile.is_zipfile(path):
        return read_array_pickle(path)
    return read_weights(path)


def restrict_classes(tensors: Mapping[str, Tensor], columns: Sequence[int]) -> dict[str, Tensor]:
    """Return a detector's weights with the classes of some columns, in this order.

    ``columns`` are numbers of the file's categories, from 1. A two-stage detector keeps its
    background. Scores are those of the whole detector, except that the softmax of a two-stage
    detector is taken over the columns that remain.

    Raises UserError for a number that the file does not have, or a file of no detector.
    """
    restricted = dict(tensors)
    count = file_columns(tensors)
    wrong = [column for column in columns if not 0 < column < count]
    if wrong:
        raise UserError(
            f"the detector's file has no category {wrong[0]}; its categories are 1 to {count - 1}"
        )
    if f"{CLASS_SCORES}weight" in tensors:
        kept = [0, *columns]
        for name in _names(tensors, CLASS_SCORES):
            restricted[name] = tensors[name][kept]
        for name in _names(tensors, CLASS_BOXES):
            restricted[name] = _grouped(tensors[name], count)[kept].flatten(0, 1)
        return restricted
    for name in _names(tensors, ANCHOR_SCORES):
        anchors = len(tensors[name]) // count
        of_anchors = _grouped(tensors[name], anchors)
        restricted[name] = of_anchors[:, list(columns)].flatten(0, 1)
    return restricted


def _grouped(tensor: Tensor, groups: int) -> Tensor:
    """Return the first dimension as groups of its rows."""
    return tensor.reshape(groups, -1, *tensor.shape[1:])


def file_columns(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of columns of a detector's weights. Raises UserError for no detector."""
    if f"{CLASS_SCORES}weight" in tensors:
        return len(tensors[f"{CLASS_SCORES}weight"])
    if f"{ANCHOR_SCORES}weight" in tensors and ANCHOR_BOXES in tensors:
        anchors = len(tensors[ANCHOR_BOXES]) // BOX
        return len(tensors[f"{ANCHOR_SCORES}weight"]) // anchors
    raise UserError(f"the file {NO_DETECTOR}")


def coco_columns(tensors: Mapping[str, Tensor], categories: Sequence[int]) -> list[int]:
    """Return the columns of COCO's categories (1 to 90) in a file that was trained on COCO.

    torchvision's files have a column for each number, detectron2's for each of the 80 categories.
    Raises UserError for a number without a category, or a file of other categories.
    """
    names, numbers = published_categories(), category_numbers()
    unknown = [number for number in categories if number not in numbers]
    if unknown:
        raise UserError(f"COCO has no category {unknown[0]}; its {len(numbers)} are in 1 to 90")
    count = file_columns(tensors)
    if count == len(names):
        return list(categories)
    if count == len(numbers) + 1:
        return [numbers.index(number) + 1 for number in categories]
    raise UserError(
        f"the detector's file has {count} columns, and one of COCO's categories {len(names)} or "
        f"{len(numbers) + 1}"
    )


def published_categories() -> tuple[str, ...]:
    """Return the names of the columns of torchvision's detectors, by COCO's numbers."""
    known = published_detector("torchvision:fasterrcnn_resnet50_fpn", PRETRAINED)
    assert known is not None
    return known.categories


def category_numbers() -> list[int]:
    """Return the numbers of COCO's 80 categories."""
    return [number for number, name in enumerate(published_categories()) if name not in UNUSED]


def numbers_by_name(class_names: Sequence[str]) -> list[int] | None:
    """Return COCO's numbers of categories by their names, or None if one is not COCO's."""
    names = published_categories()
    numbers = {names[number]: number for number in category_numbers()}
    known = [numbers[name] for name in class_names if name in numbers]
    return known if len(known) == len(class_names) else None


def networks_in(weights: CheckpointWeights) -> Iterator[Mapping[str, Tensor]]:
    """Yield the tensors of each whole detector that a file may hold, under torchvision's names."""
    for view in candidate_views(weights.tensors):
        tensors: Mapping[str, Tensor] = view.tensors
        if is_detectron2(tensors):
            tensors = from_detectron2(tensors)
        if _names(tensors, CLASS_SCORES) or _names(tensors, ANCHOR_SCORES):
            yield tensors


def load_detector(
    detector: Detector,
    weights: CheckpointWeights,
    name: str,
    categories: Sequence[int] | None = None,
    *,
    keep_head: bool = False,
) -> ReplacedHead | None:
    """Load the weights of a whole detector; ``name`` is that of :func:`build_detector`.

    ``categories`` are COCO's numbers of the detector's classes, in their order, for a file that was
    trained on COCO. Without them the file has the detector's own classes; of other ones the layers
    stay the detector's own with ``keep_head``, which is returned then. On an error the detector
    does not change.

    Raises UserError for a file of another detector, or of other classes.
    """
    views = candidate_views(weights.tensors)
    if any(is_detectron2(view.tensors) for view in views) and not computes_as_detectron2(detector):
        raise UserError(
            f"checkpoint {weights.path} is of detectron2, whose networks compute differently; "
            "name the detector detectron2:faster_rcnn_R_50_FPN or …R_101_FPN"
        )
    expected, misfits = detector.state_dict(), []
    for network in networks_in(weights):
        tensors, head = _upgraded(network, expected), None
        if categories is not None:
            tensors = restrict_classes(tensors, coco_columns(tensors, categories))
        if keep_head and _other_classes(tensors, detector):
            head = _own_head(tensors, detector)
        misfit = _other_classes(tensors, detector) or find_misfit(dict(tensors), expected)
        if misfit is None:
            _load(detector, tensors)
            if _has_no_eps(name, weights):
                remove_eps(detector)
            return head
        misfits.append(misfit.removesuffix(MAY_BE_NO_WEIGHTS))
    raise UserError(f"checkpoint {weights.path} {misfits[0] if misfits else NO_DETECTOR}")


def _own_head(tensors: dict[str, Tensor], detector: Detector) -> ReplacedHead:
    """Give the tensors the layers of the detector's classes in place of theirs."""
    in_file = file_columns(tensors) - isinstance(detector, TwoStage)
    prefixes = (CLASS_SCORES, CLASS_BOXES, ANCHOR_SCORES)
    own = {n: t for n, t in detector.state_dict().items() if n.startswith(prefixes)}
    tensors |= own
    layers = dict.fromkeys(name.rpartition(".")[0] for name in own)
    return ReplacedHead(" and ".join(layers), in_file, detector.num_classes)


def remove_eps(detector: nn.Module) -> None:
    """Let frozen BatchNorm divide by the deviation alone, whatever its epsilon is.

    The variance is stored less the epsilon that is added again, so that copies of the weights say
    the same.
    """
    for module in detector.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var -= module.eps


def _has_no_eps(name: str, weights: CheckpointWeights) -> bool:
    """Return whether the file is one for which torchvision sets the epsilon to 0."""
    rest = name.removeprefix("torchvision:")
    if rest not in WITHOUT_EPS:
        return False
    published = published_detector(name, PRETRAINED)
    return published is not None and published.file.path.name == weights.path.name


def _upgraded(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under today's names, without counters of batches of frozen BatchNorm."""
    upgraded = {}
    for name, tensor in tensors.items():
        renamed = next((new(m) for old, new in RENAMED if (m := old.match(name))), name)
        key = renamed if name not in expected and renamed in expected else name
        if key in expected or not key.endswith(BATCH_COUNTER):
            upgraded[key] = tensor
    return upgraded


def _other_classes(tensors: Mapping[str, Tensor], detector: Detector) -> str | None:
    try:
        count = file_columns(tensors)
    except UserError:
        return None
    wanted = detector.num_classes + isinstance(detector, TwoStage)
    if count == wanted:
        return None
    return (
        f"has {count} columns, and the detector of {detector.num_classes} classes {wanted}; say "
        "which of the file's categories the classes are"
    )


def _load(detector: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    counters = {
        name: torch.zeros((), dtype=torch.long)
        for name in detector.state_dict()
        if name not in tensors
    }
    load_fitted(detector, {**tensors, **counters})


def _names(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    return [name for name in tensors if name.startswith(prefix)]
