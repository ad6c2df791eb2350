"""Wide ResNets of depth 6n + 4 for 32×32 images: BatchNorm and ReLU before each convolution.

Source: Zagoruyko and Komodakis, arXiv 1605.07146; names, maps and initialisation (convolutions of
Kaiming's normal by fan-out, BatchNorm at identity, the classifier's bias at zero) as in
RepDistiller and mdistiller. ``wrn_40_2``: depth 40, twice as wide.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import average


class Block(nn.Module):
    """Two 3×3 convolutions, each after BatchNorm and ReLU, and a shortcut.

    Where the width changes, the shortcut projects what the first BatchNorm and ReLU give.
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
        """Return the block's map, and what its first BatchNorm makes of ``x``."""
        normed: Tensor = self.bn1(x)
        active = F.relu(normed)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + residual, normed


class Stage(nn.Module):
    """Blocks of one width under the published name ``layer``."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = Block(inputs, outputs, stride)
        self.layer = nn.ModuleList(
            [first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1))]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's map, and its first BatchNorm's: the map before it, before its ReLU."""
        x, normed = self.layer[0](x)
        for block in self.layer[1:]:
            x, _ = block(x)
        return x, normed


class WideResNet(Classifier):
    """Stem, three stages, BatchNorm, ReLU and a linear classifier.

    ``maps`` are the sums that stem and stages give, before BatchNorm and ReLU; ``preacts`` the same
    after the next BatchNorm; ``final`` the last one after BatchNorm and ReLU.
    """

    def __init__(self, depth: int, widening: int, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        assert depth == 6 * blocks + 4, "depth is 6n + 4"
        widths = (16 * widening, 32 * widening, 64 * widening)
        self.conv1 = conv3x3(channels, 16)
        self.block1 = Stage(16, widths[0], blocks, stride=1)
        self.block2 = Stage(widths[0], widths[1], blocks, stride=2)
        self.block3 = Stage(widths[1], widths[2], blocks, stride=2)
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
        final = F.relu(third_normed)
        pooled = average(final)
        preacts = (stem, first_normed, second_normed, third_normed)
        return Features((stem, first, second, third), pooled, self.fc(pooled), preacts, final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a last map (B, 64 × widening, H, W) after BatchNorm and ReLU."""
        logits: Tensor = self.fc(average(final))
        return logits


def wide_resnet(depth: int, widening: int, classes: int, channels: int) -> WideResNet:
    """Return the Wide ResNet of ``depth``, ``widening`` times as wide as the CIFAR ResNets."""
    return WideResNet(depth, widening, classes, channels)
