"""ResNet-18, 34 and 50 for 32×32 images: a 3×3 stem without pooling, then four stages.

Source: He et al., arXiv 1512.03385. Parameter names (``shortcut``, ``linear``), maps and
initialisation are those of RepDistiller and mdistiller.
"""

from collections.abc import Sequence

from rkkd_cli.models.zoo.blocks import BasicBlock, Bottleneck, ResNet

WIDTHS = (64, 128, 256, 512)


class LargeResNet(ResNet):
    """A ResNet with four stages of ``depths`` blocks."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        classes: int,
        channels: int,
    ) -> None:
        super().__init__(block, WIDTHS[0], WIDTHS, depths, classes, channels)
