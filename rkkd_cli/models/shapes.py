"""The shapes of a model's features, for what is built to fit them (projectors)."""

from typing import NamedTuple

import torch

from rkkd_cli.models.dry_run import dry_run
from rkkd_cli.models.features import Classifier, Features


class FeatureShapes(NamedTuple):
    """Shapes without the batch: maps and final (D, H, W), pooled the width D.

    ``final`` is None for a model whose classifier reads no feature map.
    """

    maps: tuple[torch.Size, ...]
    pooled: int
    final: torch.Size | None


def feature_shapes(
    model: Classifier, in_channels: int, image_size: tuple[int, int]
) -> FeatureShapes:
    """Return the shapes of the model's features for images of a size, computing next to nothing.

    The model, its mode and the random generators stay as they are. Raises what the model raises
    for images that it cannot take.
    """
    shape = (2, in_channels, *image_size)
    features: Features = dry_run(model, model.forward_features, shape)
    final = None if features.final is None else features.final.shape[1:]
    maps = tuple(one.shape[1:] for one in features.maps)
    return FeatureShapes(maps, features.pooled.shape[1], final)
