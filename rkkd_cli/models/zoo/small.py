"""Plain CNNs: teacher and student for digits, and the two-layer student of the α × T study."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import PoolingClassifier


class PlainCNN(PoolingClassifier):
    """Layers of 3×3 convolution, BatchNorm and ReLU; ``pooled_layers`` also max-pool 2×2."""

    head = "fc"

    def __init__(
        self, widths: Sequence[int], pooled_layers: Sequence[int], classes: int, channels: int
    ) -> None:
        super().__init__()
        self.pooled_layers = frozenset(pooled_layers)
        inputs = (channels, *widths[:-1])
        self.convs = nn.ModuleList(conv3x3(i, o) for i, o in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.fc = nn.Linear(widths[-1], classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Features:
        """Return one map per layer, the pooled features and the logits."""
        maps: list[Tensor] = []
        preacts: list[Tensor] = []
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if layer in self.pooled_layers:
                x = F.max_pool2d(x, 2)
            preacts.append(x)
            x = F.relu(x)  # ReLU before pooling gives the same, on four times the values
            maps.append(x)
        return self.features(maps, preacts, x)


def digits_teacher(classes: int, channels: int) -> PlainCNN:
    """Return the teacher for 8×8 digits: 32, 64 and 128 channels."""
    return PlainCNN((32, 64, 128), (1,), classes, channels)


def digits_student(classes: int, channels: int) -> PlainCNN:
    """Return the student for 8×8 digits: 4 and 8 channels, small enough to make mistakes."""
    return PlainCNN((4, 8), (0,), classes, channels)


def cnn2(classes: int, channels: int) -> PlainCNN:
    """Return the two-convolution student: 16 and 32 channels, each pooled.

    The α × T study only says "two-layer CNN"; the widths are ours.
    """
    return PlainCNN((16, 32), (0, 1), classes, channels)
