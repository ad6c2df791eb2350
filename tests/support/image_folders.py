"""Image folders made up for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_folder(root: Path, classes: int, train: int, test: int, size: int) -> Path:
    """Write random RGB images of ``size`` × ``size``, so many of each class in each split."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            folder = root / split / f"class{label:03d}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root
