"""The options of detectors: arguments of torchvision's builders, under its names."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torchvision.models.detection.anchor_utils import AnchorGenerator

from rkkd_cli.errors import UserError, unknown_name


class Limits(NamedTuple):
    """What an option may be: a number of this type from ``low`` to ``high``."""

    kind: type[int] | type[float]
    low: float
    high: float = float("inf")

    def __str__(self) -> str:
        number = "a whole number" if self.kind is int else "a number"
        upper = f" to {self.high:g}" if self.high < float("inf") else ""
        return f"{number} from {self.low:g}{upper}"


COUNT, SHARE = Limits(int, 1), Limits(float, 0, 1)
BACKBONE = {"trainable_backbone_layers": Limits(int, 0, 6)}
PYRAMID = {"out_channels": COUNT}
ANCHORS = ("anchor_sizes", "anchor_scales", "aspect_ratios")

TWO_STAGE = {
    "rpn_pre_nms_top_n_train": COUNT,
    "rpn_pre_nms_top_n_test": COUNT,
    "rpn_post_nms_top_n_train": COUNT,
    "rpn_post_nms_top_n_test": COUNT,
    "rpn_nms_thresh": SHARE,
    "rpn_fg_iou_thresh": SHARE,
    "rpn_bg_iou_thresh": SHARE,
    "rpn_batch_size_per_image": COUNT,
    "rpn_positive_fraction": SHARE,
    "rpn_score_thresh": SHARE,
    "box_score_thresh": SHARE,
    "box_nms_thresh": SHARE,
    "box_detections_per_img": COUNT,
    "box_fg_iou_thresh": SHARE,
    "box_bg_iou_thresh": SHARE,
    "box_batch_size_per_image": COUNT,
    "box_positive_fraction": SHARE,
}
ONE_STAGE = {
    "score_thresh": SHARE,
    "nms_thresh": SHARE,
    "detections_per_img": COUNT,
    "topk_candidates": COUNT,
}
RETINANET = {**ONE_STAGE, "fg_iou_thresh": SHARE, "bg_iou_thresh": SHARE}
FCOS = {**ONE_STAGE, "center_sampling_radius": Limits(float, 0)}
OF_NETWORK = {"fasterrcnn": TWO_STAGE, "retinanet": RETINANET, "fcos": FCOS}
OF_PARTS = {
    "fasterrcnn": (*PYRAMID, "representation_size", *ANCHORS),
    "retinanet": (*PYRAMID, *ANCHORS),
    "fcos": (*PYRAMID,),  # whose anchors are the places of the maps
}
LIMITS = {**BACKBONE, **PYRAMID, "representation_size": COUNT, **TWO_STAGE, **RETINANET, **FCOS}
GROUPS = 32  # of FCOS's GroupNorm, which needs two values in each, of a map of one pixel too
# Overlaps from which an anchor or region is foreground, and below which it is background.
THRESHOLDS = {
    "fasterrcnn": (
        ("rpn_fg_iou_thresh", 0.7, "rpn_bg_iou_thresh", 0.3),
        ("box_fg_iou_thresh", 0.5, "box_bg_iou_thresh", 0.5),
    ),
    "retinanet": (("fg_iou_thresh", 0.5, "bg_iou_thresh", 0.4),),
    "fcos": (),
}

ASPECT_RATIOS = (0.5, 1.0, 2.0)


def check_options(name: str, kind: str, options: Mapping[str, Any], is_published: bool) -> None:
    """Raise UserError for an option that the detector does not have, or a wrong value.

    A published detector (``torchvision:NAME``) has no options of its layers.
    """
    parts = () if is_published else OF_PARTS[kind]
    known = (*OF_NETWORK[kind], *BACKBONE, *parts)
    for option, value in options.items():
        if option not in known:
            error = unknown_name(f"option of {name}", option, known)
            raise UserError(
                f"{error}; options=none leaves out those of a preset, and "
                "options={out_channels=64} gives others instead"
            )
        if option in ANCHORS:
            _check_numbers(option, value)
        else:
            _check_number(option, value, LIMITS[option])
    for foreground, usual, background, usual_background in THRESHOLDS[kind]:
        low, high = options.get(background, usual_background), options.get(foreground, usual)
        if low > high:
            raise UserError(f"{background} is at most {foreground}, and {low} is above {high}")
    channels = options.get("out_channels", 2 * GROUPS)
    if kind == "fcos" and (channels % GROUPS or channels < 2 * GROUPS):
        raise UserError(f"out_channels of FCOS is {2 * GROUPS}, {3 * GROUPS}, …, not {channels}")


def network_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that torchvision's network takes."""
    return {name: value for name, value in options.items() if name in OF_NETWORK[kind]}


def make_anchors(
    options: Mapping[str, Any], default: tuple[tuple[float, ...], ...]
) -> AnchorGenerator:
    """Return the anchors of the options ``anchor_sizes``, ``anchor_scales``, ``aspect_ratios``.

    ``anchor_sizes`` has a size in pixels for each map, finest first, each of which is multiplied by
    all ``anchor_scales``. Raises UserError for another number of maps.
    """
    scales = options.get("anchor_scales", (1.0,))
    given = options.get("anchor_sizes")
    bases = default if given is None else tuple((size,) for size in given)
    if len(bases) != len(default):
        raise UserError(
            f"anchor_sizes has {len(bases)} entries, and the detector {len(default)} feature maps"
        )
    sizes = tuple(tuple(size * scale for size in base for scale in scales) for base in bases)
    ratios = tuple(options.get("aspect_ratios", ASPECT_RATIOS))
    return AnchorGenerator(sizes, (ratios,) * len(sizes))


def _check_number(option: str, value: Any, limits: Limits) -> None:
    kinds = (int,) if limits.kind is int else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not limits.low <= value <= limits.high:
        raise UserError(f"option {option} is {limits}, not {value!r}")


def _check_numbers(option: str, value: Any) -> None:
    """Raise UserError unless the value is a list of positive numbers."""
    numbers = value if isinstance(value, list | tuple) else []
    are_positive = all(
        isinstance(number, int | float) and not isinstance(number, bool) and number > 0
        for number in numbers
    )
    if not numbers or not are_positive:
        example = "[16, 32, 64, 128, 256]" if option == "anchor_sizes" else "[0.5, 1.0, 2.0]"
        raise UserError(f"option {option} is a list of positive numbers, such as {example}")
