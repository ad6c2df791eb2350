"""What the annotation files of a dataset list: images, their objects, and categories."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.detection.annotations import Annotations
from rkkd_cli.data.subsets import Indices


class Listing(NamedTuple):
    """Images as an annotation file lists them.

    ``names`` (N,) are paths below the dataset's root, ``sizes`` (N, 2) height and width.
    ``annotations`` have the classes' original numbers, the keys of ``categories``, as labels.
    ``listed_in`` says where. ``notes`` are sentences for the user about what was left out.
    """

    names: NDArray[np.str_]
    sizes: Indices
    annotations: Annotations
    categories: dict[int, str]
    listed_in: str
    notes: tuple[str, ...] = ()

    def joined(self, other: "Listing") -> "Listing":
        """Return these images and then the others, of the same categories."""
        one, two = self.annotations, other.annotations
        return Listing(
            np.concatenate((self.names, other.names)),
            np.concatenate((self.sizes, other.sizes)),
            Annotations(
                np.concatenate((one.boxes, two.boxes)),
                np.concatenate((one.labels, two.labels)),
                np.concatenate((one.areas, two.areas)),
                np.concatenate((one.crowd, two.crowd)),
                np.concatenate((one.starts, one.starts[-1] + two.starts[1:])),
            ),
            self.categories,
            f"{self.listed_in} and {other.listed_in}",
            self.notes + other.notes,
        )


def repeated(values: list[int]) -> list[int]:
    """Return the values that stand in the list more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
