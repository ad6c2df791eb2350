"""What a file of teacher logits keeps of each image: all logits, or the top K and the rest.

Shapes: B batch, C classes, K of them kept.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.config.cache_modes import kept_classes
from rkkd_cli.errors import RunError
from rkkd_cli.losses import TopLogits, top_logits
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Features

Rows = NDArray[Any]
Kept = Features | TopLogits


class RowFormat(Protocol):
    """What is kept of an image's logits, and how a file has it. ``dtype`` is that of an image."""

    dtype: np.dtype[Any]

    def keep(self, logits: Tensor) -> Kept:
        """Return what the arms get of logits (B, C), whether it is written or read."""

    def pack(self, kept: Any) -> Rows:
        """Return the rows of the file for what is kept."""

    def unpack(self, rows: Rows, device: torch.device) -> Kept:
        """Return what is kept, of the rows of the file."""


class AllLogits:
    """All C logits: ``exact`` in float32, ``fp16`` each rounded by at most 2⁻¹¹ of its value."""

    def __init__(self, precision: str, classes: int) -> None:
        self.torch_dtype = {"exact": torch.float32, "fp16": torch.float16}[precision]
        kind = {"exact": np.float32, "fp16": np.float16}[precision]
        self.dtype = np.dtype((kind, (classes,)))

    def keep(self, logits: Tensor) -> Features:
        """Return the logits, rounded as in the file.

        Raises RunError for logits that float16 cannot represent.
        """
        rounded = logits.to(self.torch_dtype)
        if self.torch_dtype == torch.float16 and not rounded.isfinite().all():
            raise RunError(
                "the teacher has logits beyond 65504, which fp16 cannot hold; use "
                "cache_teacher=exact"
            )
        return logits_only(rounded.float())

    def pack(self, kept: Features) -> Rows:
        """Return the logits (B, C)."""
        rows: Rows = kept.logits.to(self.torch_dtype).cpu().numpy()
        return rows

    def unpack(self, rows: Rows, device: torch.device) -> Features:
        """Return the logits (B, C) in float32."""
        return logits_only(torch.from_numpy(np.array(rows)).to(device).float())


class LargestLogits:
    """The K largest logits with their classes, and the rest at each temperature of the arms.

    Logits are float32: the ranking loss tells pairs apart by hundredths at its usual steepness of
    100, and float16 has steps of 0.008 from 8 on. An image takes K·(2 + 4) + 4 bytes for each
    temperature; from 65,536 classes on, K·(4 + 4) + 4.
    """

    def __init__(self, count: int, classes: int, temperatures: Sequence[float]) -> None:
        self.count, self.temperatures = count, tuple(temperatures)
        number = np.uint16 if classes <= 2**16 else np.uint32
        self.dtype = np.dtype(
            [
                ("classes", number, (count,)),
                ("logits", np.float32, (count,)),
                ("rest", np.float32, (len(self.temperatures),)),
            ]
        )

    def keep(self, logits: Tensor) -> TopLogits:
        """Return the K largest of logits (B, C), and the rest."""
        return top_logits(logits, self.count, self.temperatures)

    def pack(self, kept: TopLogits) -> Rows:
        """Return the rows (B,) of the file."""
        rows = np.empty(len(kept.logits), self.dtype)
        rows["classes"], rows["logits"] = kept.indices.cpu().numpy(), kept.logits.cpu().numpy()
        rows["rest"] = torch.stack([*kept.rest.values()], dim=1).cpu().numpy()
        return rows

    def unpack(self, rows: Rows, device: torch.device) -> TopLogits:
        """Return what the rows (B,) of the file have."""
        indices = torch.from_numpy(rows["classes"].astype(np.int64)).to(device)
        logits, rest = (torch.from_numpy(np.array(rows[n])).to(device) for n in ("logits", "rest"))
        return TopLogits(indices, logits, dict(zip(self.temperatures, rest.unbind(1), strict=True)))


def row_format(mode: str, classes: int, temperatures: Sequence[float]) -> RowFormat:
    """Return the format of a mode of ``cache_teacher`` other than ``off``."""
    count = kept_classes(mode)
    if count is None:
        return AllLogits(mode, classes)
    return LargestLogits(count, classes, temperatures)
