"""What every model of the zoo gives, and how its weights begin."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from rkkd_cli.errors import UserError


class Features(NamedTuple):
    """The outputs of one forward pass that distillation methods look at.

    ``preacts`` are the maps before their last ReLU, one for each of ``maps``; a stem's map, and one
    that no ReLU ends, stand there as they are, as in mdistiller. ``final`` is the map that
    :meth:`Classifier.classify` reads: the last of ``maps`` but where layers come between it and the
    pooling. A model without feature maps of two dimensions has none of these (``final`` is None).
    """

    maps: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor
    preacts: tuple[Tensor, ...] = ()
    final: Tensor | None = None


class Classifier(nn.Module, ABC):
    """A model with feature maps, pooled features and logits."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Features:
        """Return the feature maps from early to late, the pooled features and the logits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of the images x (B, in_channels, H, W)."""
        return self.forward_features(x).logits

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of a final map (B, D, H, W), as a forward pass does.

        Raises UserError for a model whose classifier reads no feature map.
        """
        raise UserError(
            f"the classifier of {type(self).__name__} reads no feature map, "
            f"so none of shape {tuple(final.shape)}"
        )


def initialise(model: nn.Module) -> None:
    """Draw convolutions from Kaiming's normal (fan-out, ReLU) and set BatchNorm to identity.

    Biases of convolutions become zero. Linear layers stay as torch draws them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size (at stride 1), without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
