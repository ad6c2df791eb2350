"""ResNet-18 for 32×32 images: a 3×3 stem without pooling, four stages of two blocks.

Source: He et al., arXiv 1512.03385; parameter names (``shortcut``, ``linear``) as in RepDistiller
and mdistiller.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, conv3x3, initialise


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is empty where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class ResNet18(Classifier):
    """Stem, four stages and a linear classifier; maps are the outputs of stem and stages."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.linear = nn.Linear(512, classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Features:
        """Return five maps, the pooled features and the logits."""
        maps = [F.relu(self.bn1(self.conv1(x)))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        pooled = maps[-1].mean(dim=(2, 3))
        return Features(tuple(maps), pooled, self.linear(pooled))


def resnet18(classes: int, channels: int) -> ResNet18:
    """Return ResNet-18 for 32×32 images."""
    return ResNet18(classes, channels)
