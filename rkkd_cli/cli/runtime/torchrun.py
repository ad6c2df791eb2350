"""Under torchrun rank 0 runs the program; the other ranks follow it and print nothing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.train.distributed.process_group import TorchrunGroup

# How long another rank that fails waits for rank 0, which may fail for the same reason and is then
# the one that reports it.
SECONDS_FOR_RANK_ZERO = 2.0


@contextmanager
def process_group() -> Iterator["TorchrunGroup | None"]:
    """Yield rank 0's process group, or None if torchrun has not started several processes.

    The other ranks do not get beyond this: they follow rank 0, and exit with its status.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield None
        return
    from rkkd_cli.train.distributed.torchrun import connect

    try:
        group = connect(os.environ)
    except UserError:
        if os.environ["RANK"] == "0":
            raise
        sys.exit(2)
    if not group.is_first:
        sys.exit(_follow_rank_zero(group))
    status = 1
    try:
        yield group
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except UserError:
        status = 2
        raise
    finally:
        group.channel.dismiss(status, group.world_size - 1)
        group.destroy()


def _follow_rank_zero(group: "TorchrunGroup") -> int:
    """Train what rank 0 trains, until it ends; return its exit status."""
    from rkkd_cli.cli.runtime.signals import PATIENCE_SECONDS, SIGNALS
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.sweep.engines.ranks import follow
    from rkkd_cli.train.distributed.control_channel import Dismissed
    from rkkd_cli.train.stop_controller import SharedStopController

    controller = SharedStopController(0.0, group)

    def request_stop(number: int, _: FrameType | None) -> None:
        if not controller.stop_requested:  # rank 0 gets the signal as well, or hears of the stop
            controller.stop_requested = True
            timer = threading.Timer(PATIENCE_SECONDS, os._exit, [128 + number])
            timer.daemon = True
            timer.start()

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, request_stop)
    try:
        follow(group, cache_directory(), controller)
    except Dismissed as dismissed:
        return dismissed.status
    except (RuntimeError, MemoryError, ValueError, OSError):
        group.destroy()  # so that rank 0 fails in its next collective
        status = group.channel.wait_for_dismissal(SECONDS_FOR_RANK_ZERO)
        if status is None:
            raise
        return status
    finally:
        group.channel.report_left()
    raise AssertionError("a rank follows until it is dismissed")
