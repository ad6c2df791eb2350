"""MobileNetV2 for 32×32 images, at half or full width.

Source: Sandler et al., arXiv 1801.04381. ``MobileNetV2`` has half width (RepDistiller, mdistiller),
``MobileNetV2x2`` full width (SimKD); both expand 6 times. Names, maps, ReLU instead of ReLU6, and
initialisation are those of these projects.
"""

from torch import Tensor, nn

from rkkd_cli.models.features import Features, conv3x3, initialise
from rkkd_cli.models.zoo.blocks import PoolingClassifier

# The seven stages: expansion, channels at full width, number of blocks and first stride.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MAP_STAGES = (1, 2, 4, 6)  # whose outputs are feature maps
LAST_WIDTH = 1280


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3×3 convolution, linear projection; a shortcut if the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the projection, added to ``x`` if the shape is kept."""
        projected: Tensor = self.conv(x)
        return x + projected if self.residual else projected


class MobileNetV2(PoolingClassifier):
    """Stem, seven stages, a 1×1 convolution and a linear classifier.

    ``maps`` are the outputs of the stem and of stages 1, 2, 4 and 6 (counted from 0). The stages
    end without a ReLU, so ``preacts`` are the same. ``final`` is the 1×1 convolution's output.
    """

    head = "classifier"

    def __init__(self, width: float, classes: int, channels: int) -> None:
        super().__init__()
        inputs = int(32 * width)
        self.conv1 = nn.Sequential(
            conv3x3(channels, inputs, stride=2), nn.BatchNorm2d(inputs), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        for expansion, full_width, depth, stride in STAGES:
            outputs = int(full_width * width)
            blocks = [InvertedResidual(inputs, outputs, stride, expansion)]
            blocks += [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(depth - 1)]
            self.blocks.append(nn.Sequential(*blocks))
            inputs = outputs
        self.conv2 = nn.Sequential(
            nn.Conv2d(inputs, LAST_WIDTH, 1, bias=False), nn.BatchNorm2d(LAST_WIDTH), nn.ReLU()
        )
        linear = nn.Linear(LAST_WIDTH, classes)
        self.classifier = nn.Sequential(linear)
        initialise(self)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)

    def forward_features(self, x: Tensor) -> Features:
        """Return five maps, the pooled features and the logits."""
        x = self.conv1(x)
        maps = [x]
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in MAP_STAGES:
                maps.append(x)
        return self.features(maps, maps, self.conv2(x))
