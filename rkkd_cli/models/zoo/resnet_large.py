"""ResNet-18, 34 and 50 for 32×32 images: a 3×3 stem without pooling, then four stages.

Source: He et al., arXiv 1512.03385; parameter names (``shortcut``, ``linear``), maps and
initialisation (convolutions of Kaiming's normal by fan-out, BatchNorm at identity) as in
RepDistiller and mdistiller.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import Stage, average, staged

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is empty where the shape stays."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return residual + shortcut, before the ReLU."""
        residual: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut: Tensor = self.shortcut(x)
        return residual + shortcut


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, the second four times as wide, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return residual + shortcut, before the ReLU."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        residual: Tensor = self.bn3(self.conv3(inner))
        shortcut: Tensor = self.shortcut(x)
        return residual + shortcut


class LargeResNet(Classifier):
    """Stem, four stages and a linear classifier; maps are the outputs of stem and stages."""

    def __init__(
        self, block: type[Block | Bottleneck], depths: Sequence[int], classes: int, channels: int
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, WIDTHS[0])
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        inputs = (WIDTHS[0], *(block.expansion * width for width in WIDTHS))
        self.layer1 = _stage(block, inputs[0], WIDTHS[0], depths[0], stride=1)
        self.layer2 = _stage(block, inputs[1], WIDTHS[1], depths[1], stride=2)
        self.layer3 = _stage(block, inputs[2], WIDTHS[2], depths[2], stride=2)
        self.layer4 = _stage(block, inputs[3], WIDTHS[3], depths[3], stride=2)
        self.linear = nn.Linear(inputs[4], classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Features:
        """Return five maps, the pooled features and the logits."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps, preacts = staged(stem, (self.layer1, self.layer2, self.layer3, self.layer4))
        pooled = average(maps[-1])
        return Features(tuple(maps), pooled, self.linear(pooled), tuple(preacts), maps[-1])

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a last map (B, 512 or 2048, H, W)."""
        logits: Tensor = self.linear(average(final))
        return logits


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


def _stage(
    block: type[Block | Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> Stage:
    later = (block(block.expansion * width, width, 1) for _ in range(depth - 1))
    return Stage(block(inputs, width, stride), *later)


def resnet18(classes: int, channels: int) -> LargeResNet:
    """Return ResNet-18 for 32×32 images."""
    return LargeResNet(Block, (2, 2, 2, 2), classes, channels)


def resnet34(classes: int, channels: int) -> LargeResNet:
    """Return ResNet-34 for 32×32 images."""
    return LargeResNet(Block, (3, 4, 6, 3), classes, channels)


def resnet50(classes: int, channels: int) -> LargeResNet:
    """Return ResNet-50 for 32×32 images."""
    return LargeResNet(Bottleneck, (3, 4, 6, 3), classes, channels)
