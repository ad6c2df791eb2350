"""scikit-learn's digits: 1797 real 8×8 images of handwritten digits, shipped in the package."""

import numpy as np

from rkkd_cli.data.images import LabelledImages, Splits
from rkkd_cli.data.subsets import balanced_order

TEST_IMAGES = 400


def load_digits() -> Splits:
    """Return train (1397 images), test (400, class-balanced, always the same) and class names.

    The 17 grey levels 0 … 16 become multiples of 255/16, rounded.
    """
    from sklearn.datasets import load_digits as load_sklearn_digits

    bunch = load_sklearn_digits()
    pixels = np.rint(bunch.images[:, None] * (255 / 16)).astype(np.uint8)
    digits = LabelledImages(pixels, bunch.target.astype(np.int64))
    order = balanced_order(digits.labels, seed=0)
    train = digits.take(np.sort(order[TEST_IMAGES:]))
    test = digits.take(np.sort(order[:TEST_IMAGES]))
    return train, test, tuple(map(str, bunch.target_names))
