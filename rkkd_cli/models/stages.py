"""Which of many feature maps stand for a network's stages."""

import math
from collections.abc import Sequence

SPREAD = 4  # how many maps a network without stages gives, such as a vision transformer


def stage_ends(sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> list[int]:
    """Return the indices of the maps to take, of maps in the order in which they are computed.

    The last map of every stage; a stage is what has about the same ratio to the image (powers of
    two, rounded: convolutions without padding shrink maps a little within a stage). Maps that grow
    again are left out.
    """
    last: dict[int, int] = {}
    deepest = -1
    for index, (height, width) in enumerate(sizes):
        ratio = math.sqrt(image_size[0] * image_size[1] / (height * width))
        stage = max(0, round(math.log2(ratio)))
        if stage >= deepest:
            deepest = stage
            last[stage] = index
    return sorted(last.values())


def evenly_spaced(count: int) -> list[int]:
    """Return the indices of at most SPREAD of ``count`` things, the last one among them."""
    taken = min(SPREAD, count)
    return [-(-count * (number + 1) // taken) - 1 for number in range(taken)]
