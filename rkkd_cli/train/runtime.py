"""What a process trains with, whatever it trains."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.stop_controller import StopController


@dataclass(frozen=True)
class Runtime:
    """The device, what stops the training, and the ranks that share its batches.

    ``cache`` is the folder of downloaded images, trained teachers and teachers' logits.
    """

    device: torch.device
    cache: Path
    controller: StopController
    process_group: ProcessGroup = SINGLE_PROCESS
