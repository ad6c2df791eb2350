"""VGG with BatchNorm for 32×32 images: five blocks of 3×3 convolutions and one linear layer.

Source: Simonyan and Zisserman, arXiv 1409.1556; names, maps and initialisation (convolutions of
Kaiming's normal by fan-out with biases at zero, BatchNorm at identity, the classifier of a normal
with deviation 0.01 and bias zero) as in RepDistiller and mdistiller, whose ``vgg8`` to ``vgg19``
have BatchNorm.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Classifier, Features, initialise
from rkkd_cli.models.zoo.blocks import average

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(Classifier):
    """Five blocks with pooling between them, and a linear classifier; maps are the blocks' outputs.

    Small images are not pooled between the last two blocks: the published models do that for
    64×64 images and not for 32×32; here, from a height of 64 on.
    """

    def __init__(self, depths: Sequence[int], classes: int, channels: int) -> None:
        super().__init__()
        self.block0 = _block(channels, WIDTHS[0], depths[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], depths[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], depths[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], depths[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], depths[4])
        self.classifier = nn.Linear(WIDTHS[4], classes)
        initialise(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward_features(self, x: Tensor) -> Features:
        """Return five maps, the pooled features and the logits."""
        large = x.shape[2] >= 64
        x = F.relu(self.block0(x))
        maps, preacts = [x], [x]
        for number, block in enumerate((self.block1, self.block2, self.block3, self.block4), 1):
            if number < 4 or large:
                x = F.max_pool2d(x, 2)
            before = block(x)
            x = F.relu(before)
            maps.append(x)
            preacts.append(before)
        pooled = average(x)
        return Features(tuple(maps), pooled, self.classifier(pooled), tuple(preacts), x)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a last map (B, 512, H, W)."""
        logits: Tensor = self.classifier(average(final))
        return logits


def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Return ``depth`` times convolution, BatchNorm and ReLU, without the last ReLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers[:-1])


def vgg(depth: int, classes: int, channels: int) -> VGG:
    """Return VGG of ``depth`` (8, 11, 13, 16 or 19) with BatchNorm."""
    return VGG(DEPTHS[depth], classes, channels)
