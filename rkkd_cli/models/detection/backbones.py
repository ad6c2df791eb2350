"""Feature pyramids on classifiers: torchvision's ResNets and MobileNets, and any other by its maps.

Of ResNets and MobileNets the pyramid's names are those of torchvision's own detectors.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import MobileNetV2, MobileNetV3, ResNet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from rkkd_cli.errors import UserError
from rkkd_cli.models.catalogue import build_model
from rkkd_cli.models.detection.detector import IN_CHANNELS
from rkkd_cli.models.external.torchvision_models import PREFIX, torchvision_network
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.shapes import dry_run, in_eval_mode

DRY_SIZE = (256, 320)  # at which strides are measured: two sides, which no fixed size has
PROBE_SIZE = (128, 160)  # for gradients
MIN_MAPS, MAX_MAPS = 2, 4
TWO_STAGE_FINEST, ONE_STAGE_FINEST = 4, 8  # strides of the finest maps
DETECTORS_BATCHNORM = {"norm_layer": nn.BatchNorm2d}  # torchvision's classifier V3 has another eps
RESNET_LAYERS = (("layer4.",), ("layer3.",), ("layer2.",), ("layer1.",), ("conv1.", "bn1."))
DEFAULT_TRAINABLE = 3


class Naming(NamedTuple):
    """How the names of a body's tensors stand to those of its classifier's state dict.

    ``in_classifier`` and ``in_body`` stand before them. ``unused`` are parameters of the body on
    which no map depends.
    """

    in_classifier: str = ""
    in_body: str = ""
    unused: frozenset[str] = frozenset()


class MapSource(NamedTuple):
    """A body that returns a dict of maps; ``layers``: what freezes together, the last first."""

    body: nn.Module
    naming: Naming = Naming()
    layers: tuple[tuple[str, ...], ...] = ()


class Pyramid(nn.Module):
    """A backbone and its feature pyramid; the output is a dict of maps, finest first.

    ``strides`` are those of all maps, ``naming`` says how the body's names stand to its
    classifier's.
    """

    def __init__(
        self, source: MapSource, widths: Sequence[int], out_channels: int, extra: ExtraFPNBlock
    ) -> None:
        super().__init__()
        self.body = source.body
        self.fpn = FeaturePyramidNetwork(list(widths), out_channels, extra)
        self.out_channels = out_channels
        self.naming = source.naming
        maps = dry_run(self, self.forward, (2, IN_CHANNELS, *DRY_SIZE))
        self.strides = tuple(DRY_SIZE[0] // level.shape[2] for level in maps.values())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps of the images x (B, 3, H, W), each (B, out_channels, H_l, W_l)."""
        maps: dict[str, Tensor] = self.fpn(self.body(x))
        return maps


class ClassifierMaps(nn.Module):
    """The maps of a classifier by their index."""

    def __init__(self, network: Classifier, indices: Iterable[int]) -> None:
        super().__init__()
        self.network = network
        self.indices = tuple(indices)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps, finest first."""
        maps = self.network.forward_features(x).maps
        return OrderedDict((str(n), maps[index]) for n, index in enumerate(self.indices))


def build_pyramid(
    name: str,
    finest: int,
    out_channels: int,
    extra: ExtraFPNBlock,
    pretrained: bool,
    trainable_layers: int | None,
) -> Pyramid:
    """Return a backbone by its model's name with a feature pyramid, with random weights.

    Args:
        name: a model as :func:`rkkd_cli.models.build_model` takes it.
        finest: the stride of the finest map, if the backbone has two from there on.
        out_channels: of each of the pyramid's maps.
        extra: the coarser maps that the pyramid adds.
        pretrained: weights of a classifier will be loaded, so its BatchNorm is frozen, and of
            torchvision's ResNets and MobileNets all but the last ``trainable_layers`` as well.
        trainable_layers: 3 if it is None.

    Raises UserError for an unknown model, or one without maps for a pyramid.
    """
    source = _map_source(name, finest)
    maps = dry_run(source.body, source.body.forward, (2, IN_CHANNELS, *DRY_SIZE))
    widths = [level.shape[1] for level in maps.values()]
    if pretrained:
        if name.startswith("timm:"):
            _freeze_timm_batchnorm(source.body)
        else:
            freeze_batchnorm(source.body)
    trainable = trainable_count(name, source.layers, pretrained, trainable_layers)
    if trainable < len(source.layers):
        freeze_all_but(source.body, source.layers, trainable)
    return Pyramid(source, widths, out_channels, extra)


def _map_source(name: str, finest: int) -> MapSource:
    if name.startswith((f"{PREFIX}res", f"{PREFIX}wide_res", f"{PREFIX}mobilenet_")):
        network: Any = torchvision_network(
            name.removeprefix(PREFIX), 1, IN_CHANNELS, None, DETECTORS_BATCHNORM
        )
        if isinstance(network, ResNet):
            return _resnet_source(network, finest)
        return _mobilenet_source(network, finest)
    return _classifier_source(name, finest)


def _resnet_source(network: ResNet, finest: int) -> MapSource:
    first = 1 if finest <= TWO_STAGE_FINEST else 2
    returned = {f"layer{layer}": str(n) for n, layer in enumerate(range(first, 5))}
    return MapSource(IntermediateLayerGetter(network, returned), layers=RESNET_LAYERS)


def _mobilenet_source(network: MobileNetV2 | MobileNetV3, finest: int) -> MapSource:
    """Return the maps of the last block of each stride.

    Of V3 torchvision's two-stage detectors take two maps of stride 32 instead.
    """
    blocks = network.features
    strided = [n for n, block in enumerate(blocks) if getattr(block, "_is_cn", False)]
    stages = [0, *strided, len(blocks) - 1]
    taken = [end - 1 for end in stages[2:]]  # of strides 4, 8, 16 and 32
    if finest > TWO_STAGE_FINEST:
        taken = taken[1:]
    elif isinstance(network, MobileNetV3):
        taken = stages[-2:]
    body = IntermediateLayerGetter(blocks, {str(n): str(level) for level, n in enumerate(taken)})
    ends = [*stages[1:], len(blocks)]
    layers = [
        tuple(f"{block}." for block in range(begin, end))
        for begin, end in zip(stages, ends, strict=True)
    ]
    return MapSource(body, Naming(in_classifier="features."), tuple(reversed(layers)))


def _classifier_source(name: str, finest: int) -> MapSource:
    classifier = build_model(name, 1, IN_CHANNELS)
    try:
        features = dry_run(classifier, classifier.forward_features, (2, IN_CHANNELS, *DRY_SIZE))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"{name} cannot take images of {DRY_SIZE[0]}×{DRY_SIZE[1]} pixels, and those of a "
            "detector have many sizes; take a convolutional network as the backbone"
        ) from error
    body = ClassifierMaps(classifier, _pyramid_maps(name, features.maps, finest))
    unused = _unused_parameters(body)
    for parameter_name, parameter in body.named_parameters():
        if parameter_name in unused:
            parameter.requires_grad_(False)
    return MapSource(body, Naming(in_body="network.", unused=unused))


def _pyramid_maps(name: str, maps: Sequence[Tensor], finest: int) -> list[int]:
    """Return the indices of a pyramid's maps: the last of each stride, from ``finest`` on.

    A backbone with fewer than two of these, such as those for 32×32 images, gives finer ones.
    """
    by_stride = {
        DRY_SIZE[0] // level.shape[2]: index
        for index, level in enumerate(maps)
        if level.ndim == 4 and min(level.shape[2:]) > 1
    }
    strides = [stride for stride in sorted(by_stride) if stride > 1]
    chosen = [stride for stride in strides if stride >= finest]
    if len(chosen) < MIN_MAPS:
        chosen = strides[-MIN_MAPS:]
    if len(chosen) < MIN_MAPS:
        told = ", ".join(str(stride) for stride in sorted(by_stride)) or "none"
        raise UserError(
            f"{name} has too few feature maps for a feature pyramid, which needs {MIN_MAPS} of "
            f"different strides above 1 (its strides: {told}); take a deeper backbone"
        )
    return [by_stride[stride] for stride in chosen[:MAX_MAPS]]


def _unused_parameters(body: ClassifierMaps) -> frozenset[str]:
    """Return the names of parameters on which no map depends: the head, and what is before it."""
    names = {name: p for name, p in body.named_parameters() if p.requires_grad}
    like = next(iter(names.values()))
    with in_eval_mode(body), torch.enable_grad():
        maps = body(torch.zeros(1, IN_CHANNELS, *PROBE_SIZE, device=like.device, dtype=like.dtype))
        total = torch.stack([level.sum() for level in maps.values()]).sum()
        gradients = torch.autograd.grad(total, list(names.values()), allow_unused=True)
    pairs = zip(names, gradients, strict=True)
    return frozenset(name for name, gradient in pairs if gradient is None)


def freeze_batchnorm(body: nn.Module) -> None:
    """Replace BatchNorm by fixed scales and shifts of the same names."""
    for name, child in list(body.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(body, name, frozen)
        else:
            freeze_batchnorm(child)


def _freeze_timm_batchnorm(body: nn.Module) -> None:
    """Do the same for a model of timm, whose BatchNorm may contain an activation."""
    from timm.layers import norm_act

    freeze: Any = norm_act.freeze_batch_norm_2d
    freeze(body)


def freeze_all_but(body: nn.Module, layers: Sequence[Iterable[str]], trainable: int) -> None:
    """Freeze the parameters of all layers but the last ``trainable``; ``layers`` are in reverse."""
    kept = tuple(prefix for layer in layers[:trainable] for prefix in layer)
    for name, parameter in body.named_parameters():
        if not name.startswith(kept):
            parameter.requires_grad_(False)


def trainable_count(
    name: str, layers: Sequence[Iterable[str]], pretrained: bool, given: int | None
) -> int:
    """Return how many of a backbone's ``layers`` are trained: all, unless it is ``pretrained``.

    Raises UserError if a number is given that has no meaning.
    """
    reason = None
    is_all = bool(layers) and given == len(layers)
    if given is not None and not pretrained and not is_all:
        reason = f"the backbone of {name} begins with random weights, so all of it is trained"
    elif given is not None and not layers:
        reason = "it freezes layers of torchvision's ResNets and MobileNets only"
    elif given is not None and given > len(layers):
        reason = f"{name} has {len(layers)} layers, not {given}"
    if reason:
        raise UserError(f"leave out trainable_backbone_layers: {reason}")
    wanted = DEFAULT_TRAINABLE if given is None else given
    return wanted if pretrained and layers else len(layers)


def classifier_names(pyramid: Any) -> dict[str, str]:
    """Return the body's name of each tensor that a map depends on, by the classifier's name."""
    naming = getattr(pyramid, "naming", Naming())  # torchvision's own pyramids are on ResNets
    return {
        naming.in_classifier + name.removeprefix(naming.in_body): name
        for name in pyramid.body.state_dict()
        if name not in naming.unused
    }
