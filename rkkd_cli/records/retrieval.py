"""``retrieval/ARM.safetensors``: what an arm finds for some test images, and the images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file

FACTS = "rkkd.retrieval"  # one entry of the metadata: the library writes several in any order
AXES = 5  # Q, 1 + K, C, H, W


@dataclass(frozen=True, eq=False)
class RetrievalSheet:
    """Queries, and the images that are nearest to them after an arm's last ``epoch``.

    ``images`` (Q, 1 + K, C, H, W) uint8: a query, then its neighbours, nearest first; ``classes``:
    the names of their classes, (Q, 1 + K).
    """

    arm: str
    seed: int
    epoch: int
    images: NDArray[np.uint8]
    classes: NDArray[np.str_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which neighbours are of their query's class, (Q, K)."""
        return np.equal(self.classes[:, 1:], self.classes[:, :1])

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises OSError."""
        facts = {"arm": self.arm, "seed": self.seed, "epoch": self.epoch}
        facts |= {"classes": self.classes.tolist()}
        content = save({"images": np.ascontiguousarray(self.images)}, {FACTS: json.dumps(facts)})
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises UserError for one that cannot be read, or holds something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {})[FACTS])
                images: NDArray[Any] = file.get_tensor("images")
            classes = np.array(facts["classes"], dtype=np.str_)
            sheet = cls(str(facts["arm"]), int(facts["seed"]), int(facts["epoch"]), images, classes)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it to go without it") from None
        fits = images.ndim == AXES and images.dtype == np.uint8 and images.size > 0
        if not (fits and classes.shape == images.shape[:2]):
            raise UserError(f"{path} is damaged (shapes do not fit); remove it to go without it")
        return sheet
