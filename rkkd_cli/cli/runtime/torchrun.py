"""Under torchrun rank 0 is the program; the other ranks follow it and print nothing."""

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

# The first rank may fail for the same reason: then it is the one that says so.
SECONDS_FOR_THE_FIRST = 2.0


def _is_one_of_several() -> bool:
    """Tell whether torchrun has started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


@contextmanager
def joined() -> Iterator["TorchrunGroup | None"]:
    """Give rank 0 its process group, or None without torchrun.

    The other ranks follow rank 0 here, and exit with its status.
    """
    if not _is_one_of_several():
        yield None
        return
    from rkkd_cli.train.distributed.torchrun import connect

    try:
        process_group = connect(os.environ)
    except UserError:
        if os.environ["RANK"] == "0":
            raise
        sys.exit(2)
    if not process_group.is_first:
        sys.exit(_followed(process_group))
    status = 1
    try:
        yield process_group
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except UserError:
        status = 2
        raise
    finally:
        process_group.channel.dismiss(status, process_group.world_size - 1)
        process_group.destroy()


def _followed(process_group: "TorchrunGroup") -> int:
    """Follow the first rank to its end; return its exit status, or that of what happened here."""
    from rkkd_cli.cli.runtime.signals import PATIENCE_SECONDS, SIGNALS
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.sweep.engines.ranks import follow
    from rkkd_cli.train.distributed.control_channel import Dismissed
    from rkkd_cli.train.stop_controller import SharedStopController

    controller = SharedStopController(0.0, process_group)

    def asked(number: int, _: FrameType | None) -> None:
        if not controller.stop_requested:  # the first rank has the same signal, or is told in time
            controller.stop_requested = True
            timer = threading.Timer(PATIENCE_SECONDS, os._exit, [128 + number])
            timer.daemon = True
            timer.start()

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, asked)
    try:
        follow(process_group, cache_directory(), controller)
    except Dismissed as over:
        return over.status
    except (RuntimeError, MemoryError, ValueError, OSError):
        process_group.destroy()  # lets the first one see it
        status = process_group.channel.dismissal(SECONDS_FOR_THE_FIRST)
        if status is None:
            raise
        return status
    finally:
        process_group.channel.say_left()
    raise AssertionError("a rank follows until it is dismissed")
