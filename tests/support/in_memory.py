"""The arrays of a split that is held in memory, for tests that look at its pixels."""

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.images import LabelledImages, Split


def pixels_of(split: Split | None) -> NDArray[np.uint8]:
    """Return the pixels (N, channels, H, W)."""
    assert isinstance(split, LabelledImages)
    return split.images
