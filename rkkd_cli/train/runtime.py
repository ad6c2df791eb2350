"""What a process trains with, whatever it trains."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.stop_controller import StopController


@dataclass(frozen=True)
class Runtime:
    """Where a process trains, what stops it, who shares its batches, and what times its steps.

    ``cache`` is the folder of downloaded images, trained teachers and teachers' logits.
    """

    device: torch.device
    cache: Path
    controller: StopController
    process_group: ProcessGroup = SINGLE_PROCESS
    spans: Spans = untimed
