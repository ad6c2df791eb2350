"""The interface of every model, and the initialisation of the zoo's."""

from abc import ABC, abstractmethod
from functools import cache
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.errors import UserError


class Features(NamedTuple):
    """The outputs of one forward pass that distillation methods use.

    Attributes:
        maps: feature maps from early to late.
        pooled: the input of the classifier's last linear layer, (B, D).
        logits: (B, num_classes).
        preacts: for each of ``maps`` the map before its last ReLU. The stem's map, and maps without
            a ReLU, are repeated unchanged, as in mdistiller.
        final: the map that :meth:`Classifier.classify` takes: the last of ``maps``, unless layers
            come between it and the pooling. None for a model that pools no feature map.

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
        """Return the logits (B, num_classes) of a final map (B, D, H, W).

        Raises UserError for a model whose classifier takes no feature map.
        """
        raise UserError(
            f"the classifier of {type(self).__name__} reads no feature map, "
            f"so none of shape {tuple(final.shape)}"
        )


class UnitOutputs(Classifier):
    """The part of a model that scales its outputs to length 1."""

    def forward_features(self, x: Tensor) -> Features:
        """Return the features with logits of length 1."""
        features = super().forward_features(x)  # type: ignore[safe-super]
        return features._replace(logits=F.normalize(features.logits.float()))

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (B, num_classes) of length 1."""
        return F.normalize(super().forward(x).float())


def with_unit_outputs(model: Classifier) -> Classifier:
    """Let the model scale its outputs to length 1. Its weights keep their names."""
    model.__class__ = _with_unit_outputs(type(model))
    return model


@cache
def _with_unit_outputs(kind: type[Classifier]) -> type[Classifier]:
    return type(f"Unit{kind.__name__}", (UnitOutputs, kind), {})


def initialise(model: nn.Module) -> None:
    """Initialise convolutions from Kaiming's normal (fan-out, ReLU) and BatchNorm as identity.

    Biases of convolutions become zero. Linear layers keep PyTorch's initialisation.
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
