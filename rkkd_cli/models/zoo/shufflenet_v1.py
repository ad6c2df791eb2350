"""ShuffleNet for 32×32 images: grouped 1×1 convolutions, with channels shuffled between groups.

Source: Zhang et al., arXiv 1707.01083, three groups. Names, maps and initialisation (PyTorch's
default) are those of RepDistiller and mdistiller.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Features
from rkkd_cli.models.zoo.blocks import (
    PoolingClassifier,
    ResidualStage,
    run_stages,
    shuffle_channels,
)

STEM_WIDTH, GROUPS = 24, 3
STAGES = ((240, 4), (480, 8), (960, 4))  # width and number of blocks


class ShuffleV1Block(nn.Module):
    """1×1, depthwise 3×3 and 1×1 convolution, and a shortcut.

    At stride 2 the shortcut is the average-pooled input, concatenated instead of added.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        residual = outputs - inputs if stride == 2 else outputs
        inner = residual // 4
        self.stride = stride
        self.groups = 1 if inputs == STEM_WIDTH else GROUPS  # the stem is too narrow for groups
        self.conv1 = nn.Conv2d(inputs, inner, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, residual, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(residual)

    def forward(self, x: Tensor) -> Tensor:
        """Return residual and shortcut, added or (at stride 2) concatenated, before the ReLU."""
        inner = shuffle_channels(F.relu(self.bn1(self.conv1(x))), self.groups)
        inner = F.relu(self.bn2(self.conv2(inner)))
        residual: Tensor = self.bn3(self.conv3(inner))
        if self.stride == 2:
            return torch.cat([residual, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)
        return residual + x


class ShuffleNetV1(PoolingClassifier):
    """A 1×1 stem, three stages and a linear classifier; maps are the outputs of stem and stages."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        (first, a), (second, b), (third, c) = STAGES
        self.layer1 = _stage(STEM_WIDTH, first, a)
        self.layer2 = _stage(first, second, b)
        self.layer3 = _stage(second, third, c)
        self.linear = nn.Linear(third, classes)

    def forward_features(self, x: Tensor) -> Features:
        """Return four maps, the pooled features and the logits."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3))
        return self.features(maps, preacts, maps[-1])


def _stage(inputs: int, outputs: int, blocks: int) -> ResidualStage:
    later = (ShuffleV1Block(outputs, outputs, 1) for _ in range(blocks - 1))
    return ResidualStage(ShuffleV1Block(inputs, outputs, 2), *later)
