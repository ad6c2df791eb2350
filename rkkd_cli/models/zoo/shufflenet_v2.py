"""ShuffleNet V2 (1×) for 32×32 images: half of the channels pass each block unchanged.

Source: Ma et al., arXiv 1807.11164. Names, maps and initialisation (PyTorch's default) are those
of RepDistiller and mdistiller.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Features
from rkkd_cli.models.zoo.blocks import PoolingClassifier, run_stages, shuffle_channels

STEM_WIDTH, LAST_WIDTH = 24, 1024
STAGES = ((116, 3), (232, 7), (464, 3))  # width, and number of blocks after the first


class ShuffleV2Block(nn.Module):
    """Three convolutions (1×1, depthwise 3×3, 1×1) on the second half of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's map, and the map before its ReLU with channels not yet shuffled."""
        kept, changed = x.chunk(2, dim=1)
        inner = F.relu(self.bn1(self.conv1(changed)))
        before = self.bn3(self.conv3(self.bn2(self.conv2(inner))))
        after = torch.cat([kept, F.relu(before)], dim=1)
        return shuffle_channels(after, 2), torch.cat([kept, before], dim=1)


class ShuffleV2DownBlock(nn.Module):
    """The first block of a stage: two concatenated branches of stride 2, shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = _depthwise_stride_2(inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _depthwise_stride_2(half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, outputs, H / 2, W / 2)."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle_channels(torch.cat([left, right], dim=1), 2)


class ShuffleV2Stage(nn.Sequential):
    """A block of stride 2, then blocks of stride 1."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's map, and the map before its last ReLU."""
        down, *blocks = self
        x = before = down(x)
        for block in blocks:
            x, before = block(x)
        return x, before


class ShuffleNetV2(PoolingClassifier):
    """A 1×1 stem, three stages, a 1×1 convolution and a linear classifier.

    Maps are the outputs of stem and stages; ``final`` is the output of the last 1×1 convolution.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        (first, a), (second, b), (third, c) = STAGES
        self.layer1 = _stage(STEM_WIDTH, first, a)
        self.layer2 = _stage(first, second, b)
        self.layer3 = _stage(second, third, c)
        self.conv2 = nn.Conv2d(third, LAST_WIDTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST_WIDTH)
        self.linear = nn.Linear(LAST_WIDTH, classes)

    def forward_features(self, x: Tensor) -> Features:
        """Return four maps, the pooled features and the logits."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3))
        final = F.relu(self.bn2(self.conv2(maps[-1])))
        return self.features(maps, preacts, final)


def _depthwise_stride_2(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False)


def _stage(inputs: int, outputs: int, blocks: int) -> ShuffleV2Stage:
    return ShuffleV2Stage(
        ShuffleV2DownBlock(inputs, outputs), *(ShuffleV2Block(outputs) for _ in range(blocks))
    )
