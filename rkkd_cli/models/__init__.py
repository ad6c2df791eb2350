"""Models: ``forward(x)`` returns logits, ``forward_features(x)`` feature maps as well.

Shapes: x (B, in_channels, H, W); maps (B, D_l, H_l, W_l) from early to late; pooled (B, D);
logits (B, num_classes).
"""

from torch import nn

from rkkd_cli.models.catalogue import LIBRARIES, MODELS, build_model, check_model_name
from rkkd_cli.models.checkpoint.load import load_checkpoint
from rkkd_cli.models.features import Classifier, Features
from rkkd_cli.models.shapes import FeatureShapes, feature_shapes

__all__ = [
    "LIBRARIES",
    "MODELS",
    "Classifier",
    "FeatureShapes",
    "Features",
    "build_model",
    "check_model_name",
    "count_parameters",
    "feature_shapes",
    "load_checkpoint",
]


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable and frozen parameters (buffers are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())
