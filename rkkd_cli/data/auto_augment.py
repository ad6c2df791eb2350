"""RandAugment and TrivialAugment, with the operations and magnitudes of torchvision's v2.

Shapes: B batch, C channels (1 or 3); pixels (B, C, H, W) uint8.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data import operations
from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.operations import Operation

MAGNITUDES = 31  # from an operation's weakest to its strongest


class Magnitude(NamedTuple):
    """An operation, and its strength at the lowest and the highest of the magnitudes.

    ``is_signed``: half of the strengths are negated. Then ``offset`` is added: an enhancement by a
    factor is 1 ± the strength. ``scale`` multiplies the strengths: the unit of pixels is 1/255.
    """

    operation: Operation
    lowest: float = 0.0
    highest: float = 0.0
    is_signed: bool = False
    offset: float = 0.0
    scale: float = 1.0

    def strengths(self) -> Tensor:
        """Return the strength at each magnitude, (31,). Bits are whole numbers."""
        values = torch.linspace(self.lowest, self.highest, MAGNITUDES)
        whole = values.round() if self.operation is operations.posterize else values
        return whole.double() * self.scale


def rand_augment_space(height: int, width: int) -> tuple[Magnitude, ...]:
    """Return the operations of torchvision's RandAugment, in its order."""
    return _space(0.3, 150 / 331 * width, 150 / 331 * height, 30.0, 0.9, fewest_bits=4)


def trivial_augment_space() -> tuple[Magnitude, ...]:
    """Return the operations of torchvision's TrivialAugmentWide, in its order."""
    return _space(0.99, 32.0, 32.0, 135.0, 0.99, fewest_bits=2)


def _space(
    shear: float, x: float, y: float, degrees: float, enhancement: float, fewest_bits: int
) -> tuple[Magnitude, ...]:
    enhancements = (operations.brightness, operations.saturation, operations.contrast,
                    operations.sharpness)  # fmt: skip
    return (
        Magnitude(operations.identity),
        Magnitude(operations.shear_x, 0, shear, is_signed=True),
        Magnitude(operations.shear_y, 0, shear, is_signed=True),
        Magnitude(operations.translate_x, 0, x, is_signed=True),
        Magnitude(operations.translate_y, 0, y, is_signed=True),
        Magnitude(operations.rotate, 0, degrees, is_signed=True),
        *(Magnitude(one, 0, enhancement, is_signed=True, offset=1.0) for one in enhancements),
        Magnitude(operations.posterize, 8, fewest_bits),
        Magnitude(operations.solarize, 1, 0, scale=255.0),
        Magnitude(operations.auto_contrast),
        Magnitude(operations.equalize),
    )


class AutoAugment(NamedTuple):
    """RandAugment (``rand``), or TrivialAugment (``trivial``).

    RandAugment applies ``num_ops`` operations of one magnitude, TrivialAugment one of any.
    Sources: Cubuk et al., arXiv 1909.13719; Müller and Hutter, arXiv 2103.10158.
    """

    kind: str
    magnitude: int
    num_ops: int

    def __call__(self, pixels: Tensor, draws: BatchDraws) -> Tensor:
        """Return the augmented images."""
        is_rand = self.kind == "rand"
        space = rand_augment_space(*pixels.shape[2:]) if is_rand else trivial_augment_space()
        table = torch.stack([magnitude.strengths() for magnitude in space])
        signs = torch.tensor([magnitude.is_signed for magnitude in space])
        offsets = torch.tensor([magnitude.offset for magnitude in space], dtype=torch.float64)
        functions = [magnitude.operation for magnitude in space]
        generator = draws.generator("auto_augment")
        for _ in range(self.num_ops if is_rand else 1):
            chosen = draws.integers(len(space), generator)
            magnitudes = draws.integers(MAGNITUDES, generator)
            is_negated = draws.uniform(generator) < 0.5
            strengths = table[chosen, self.magnitude if is_rand else magnitudes]
            strengths = torch.where(signs[chosen] & is_negated, -strengths, strengths)
            pixels = operations.apply_chosen(pixels, functions, chosen, strengths + offsets[chosen])
        return pixels
