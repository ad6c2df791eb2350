"""VGG with BatchNorm for 32×32 images: five blocks of 3×3 convolutions and one linear layer.

Source: Simonyan and Zisserman, arXiv 1409.1556. Names, maps and initialisation are those of
RepDistiller and mdistiller, whose ``vgg8`` to ``vgg19`` have BatchNorm.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.models.features import Features, initialise
from rkkd_cli.models.zoo.blocks import PoolingClassifier

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(PoolingClassifier):
    """Five blocks with pooling between them, and a linear classifier; maps are the blocks' outputs.

    Images below a height of 64 are not pooled between the last two blocks: the published models
    pool 64×64 images there, and 32×32 images not.
    """

    head = "classifier"

    def __init__(self, depth: int, classes: int, channels: int) -> None:
        super().__init__()
        depths = DEPTHS[depth]
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
        for index, block in enumerate((self.block1, self.block2, self.block3, self.block4), 1):
            if index < 4 or large:
                x = F.max_pool2d(x, 2)
            before = block(x)
            x = F.relu(before)
            maps.append(x)
            preacts.append(before)
        return self.features(maps, preacts, x)


def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Return ``depth`` layers of convolution, BatchNorm and ReLU, without the last ReLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers[:-1])
