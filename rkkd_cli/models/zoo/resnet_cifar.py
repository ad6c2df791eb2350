"""The CIFAR ResNets of depth 6n + 2, with the parameter names of the published checkpoints.

Source: He et al., arXiv 1512.03385, section 4.2. Names, widths (x4: four times as wide), maps and
initialisation are those of RepDistiller and mdistiller, so their teacher files load strictly.
"""

from collections.abc import Sequence

from rkkd_cli.models.zoo.blocks import BasicBlock, ResNet


class CifarBlock(BasicBlock):
    """A basic block whose shortcut is published as ``downsample``."""

    shortcut_name = "downsample"


class ResNetCifar(ResNet):
    """The CIFAR ResNet of ``depth``; ``widths`` are those of the stem and the three stages."""

    head = "fc"

    def __init__(self, depth: int, widths: Sequence[int], classes: int, channels: int) -> None:
        blocks = (depth - 2) // 6
        assert depth == 6 * blocks + 2, "depth is 6n + 2"
        super().__init__(CifarBlock, widths[0], widths[1:], (blocks,) * 3, classes, channels)
