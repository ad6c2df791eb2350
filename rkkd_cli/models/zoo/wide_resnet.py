"""Wide ResNets of depth 6n + 4 for 32×32 images: BatchNorm and ReLU before each convolution.

Source: Zagoruyko and Komodakis, arXiv 1605.07146. Names, maps and initialisation are those of
RepDistiller and mdistiller. ``wrn_40_2``: depth 40, twice as wide.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import PoolingClassifier


class WideBlock(nn.Module):
    """Two 3×3 convolutions, each after BatchNorm and ReLU, and a shortcut.

    If the width changes, the shortcut projects the output of the first BatchNorm and ReLU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.convShortcut: nn.Module | None = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's map, and the output of its first BatchNorm."""
        normed: Tensor = self.bn1(x)
        active = F.relu(normed)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + residual, normed


class WideStage(nn.Module):
    """Blocks of one width, under the published name ``layer``."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(inputs, outputs, stride)
        self.layer = nn.ModuleList(
            [first, *(WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's map, and the output of its first BatchNorm."""
        x, normed = self.layer[0](x)
        for block in self.layer[1:]:
            x, _ = block(x)
        return x, normed


class WideResNet(PoolingClassifier):
    """Stem, three stages, BatchNorm, ReLU and a linear classifier.

    ``maps`` are the outputs of stem and stages, before BatchNorm and ReLU. ``preacts`` are the
    stem's output and the stages' outputs after the next BatchNorm. ``final`` is the last map after
    BatchNorm and ReLU.
    """

    head = "fc"

    def __init__(self, depth: int, widening: int, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        assert depth == 6 * blocks + 4, "depth is 6n + 4"
        widths = (16 * widening, 32 * widening, 64 * widening)
        self.conv1 = conv3x3(channels, 16)
        self.block1 = WideStage(16, widths[0], blocks, stride=1)
        self.block2 = WideStage(widths[0], widths[1], blocks, stride=2)
        self.block3 = WideStage(widths[1], widths[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward_features(self, x: Tensor) -> Features:
        """Return four maps, the pooled features and the logits."""
        stem = self.conv1(x)
        first, _ = self.block1(stem)
        second, first_normed = self.block2(first)
        third, second_normed = self.block3(second)
        third_normed = self.bn1(third)
        preacts = (stem, first_normed, second_normed, third_normed)
        return self.features((stem, first, second, third), preacts, F.relu(third_normed))
