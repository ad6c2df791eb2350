"""Parts that several architectures of the zoo share."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, conv3x3, initialise


class ResidualStage(nn.Sequential):
    """A sequence of residual blocks that return their sum before the ReLU."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's map after and before its last ReLU."""
        before = x
        for block in self:
            before = block(x)
            x = F.relu(before)
        return x, before


def run_stages(stem: Tensor, stages: Iterable[nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the maps of the stem and the stages after it, and the maps before their last ReLU."""
    maps, preacts = [stem], [stem]
    for stage in stages:
        after, before = stage(maps[-1])
        maps.append(after)
        preacts.append(before)
    return maps, preacts


def average_pool(final: Tensor) -> Tensor:
    """Return the means (B, D) of a map (B, D, H, W) over height and width."""
    return final.mean(dim=(2, 3))


class PoolingClassifier(Classifier):
    """Averages its final map over height and width and classifies the means.

    ``head`` is the name of the classifying layer in the published checkpoints.
    """

    head = "linear"

    def features(
        self, maps: Sequence[Tensor], preacts: Sequence[Tensor], final: Tensor
    ) -> Features:
        """Return the maps, and the pooled features and logits of the final one."""
        pooled = average_pool(final)
        logits: Tensor = getattr(self, self.head)(pooled)
        return Features(tuple(maps), pooled, logits, tuple(preacts), final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a final map (B, D, H, W)."""
        return self.features((), (), final).logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected where the shape changes.

    ``shortcut_name`` is the name of the shortcut in the published checkpoints.
    """

    expansion = 1
    shortcut_name = "shortcut"

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.add_module(self.shortcut_name, make_shortcut(inputs, width, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return residual + shortcut, before the ReLU."""
        residual: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut: Tensor = getattr(self, self.shortcut_name)(x)
        return residual + shortcut


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution, the last four times as wide, and a shortcut."""

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
        self.shortcut = make_shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return residual + shortcut, before the ReLU."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        residual: Tensor = self.bn3(self.conv3(inner))
        shortcut: Tensor = self.shortcut(x)
        return residual + shortcut


def make_shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return an identity, or a 1×1 convolution and BatchNorm if the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


class ResNet(PoolingClassifier):
    """Stem, stages and a linear classifier; maps are the outputs of stem and stages.

    Every stage but the first halves height and width.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        stem_width: int,
        widths: Sequence[int],
        depths: Sequence[int],
        classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, stem_width)
        self.bn1 = nn.BatchNorm2d(stem_width)
        inputs = stem_width
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            first = block(inputs, width, 1 if index == 1 else 2)
            inputs = block.expansion * width
            later = (block(inputs, width, 1) for _ in range(depth - 1))
            self.add_module(f"layer{index}", ResidualStage(first, *later))
        self.add_module(self.head, nn.Linear(inputs, classes))
        initialise(self)

    def forward_features(self, x: Tensor) -> Features:
        """Return the maps, the pooled features and the logits."""
        stem = F.relu(self.bn1(self.conv1(x)))
        stages = (child for child in self.children() if isinstance(child, ResidualStage))
        maps, preacts = run_stages(stem, stages)
        return self.features(maps, preacts, maps[-1])


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the ``groups`` of a map (B, D, H, W).

    Source: ShuffleNet, arXiv 1707.01083, figure 1.
    """
    batch, width, *size = x.shape
    grouped = x.reshape(batch, groups, width // groups, *size)
    return grouped.transpose(1, 2).reshape(batch, width, *size)
