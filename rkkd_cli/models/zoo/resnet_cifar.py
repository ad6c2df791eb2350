"""The CIFAR ResNets of depth 6n + 2, with the parameter names of the published checkpoints.

Source: He et al., arXiv 1512.03385, section 4.2; names, widths (x4: four times as wide), maps and
initialisation (convolutions of Kaiming's normal by fan-out, BatchNorm at identity) as in
RepDistiller and mdistiller, so that their teacher files load strictly.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import Stage, average, staged


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected (``downsample``) where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return residual + shortcut, before the ReLU."""
        residual: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return residual + shortcut


class ResNetCifar(Classifier):
    """Stem, three stages and a linear classifier; maps are the outputs of stem and stages."""

    def __init__(self, depth: int, widths: Sequence[int], classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        assert depth == 6 * blocks + 2, "depth is 6n + 2"
        self.conv1 = conv3x3(channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Features:
        """Return four maps, the pooled features and the logits."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps, preacts = staged(stem, (self.layer1, self.layer2, self.layer3))
        pooled = average(maps[-1])
        return Features(tuple(maps), pooled, self.fc(pooled), tuple(preacts), maps[-1])

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a last map (B, the last stage's width, H, W)."""
        logits: Tensor = self.fc(average(final))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> Stage:
    first = Block(inputs, outputs, stride)
    return Stage(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet_cifar(depth: int, widths: Sequence[int], classes: int, channels: int) -> ResNetCifar:
    """Return the CIFAR ResNet of ``depth`` with the widths of its stem and three stages."""
    return ResNetCifar(depth, widths, classes, channels)
