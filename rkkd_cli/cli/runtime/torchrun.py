"""Under torchrun every rank runs the same program. Rank 0 speaks and writes; the others are silent.

How a rank ends is agreed in the store of torch.distributed: the others exit with rank 0's status,
and rank 0 says why another one has failed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from rkkd_cli.errors import RunError, UserError

if TYPE_CHECKING:
    from rkkd_cli.train.distributed.process_group import TorchrunGroup

# How long another rank that fails waits for rank 0, which may fail for the same reason and is then
# the one that reports it.
SECONDS_FOR_RANK_ZERO = 2.0
TRAINING = (["run"], ["grid"], ["resume"], ["teacher", "train"])  # the commands of all ranks
STATUS_KEY = "status"  # in the store: rank 0's exit status

Connect = Callable[[], "TorchrunGroup | None"]
T = TypeVar("T")


@contextmanager
def this_rank() -> Iterator[Connect]:
    """Yield what connects this process to the other ranks, and returns None without torchrun.

    A SystemExit ends the context with the exit status of rank 0, which alone runs commands that
    train nothing.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield lambda: None
    elif not any(sys.argv[1 : 1 + len(words)] == words for words in TRAINING):
        if not is_first:
            sys.exit(0)
        yield lambda: None
    else:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings between our lines
        with _first_rank() if is_first else _other_rank() as connect:
            yield connect


@contextmanager
def _first_rank() -> Iterator[Connect]:
    """Tell the other ranks how this one ends, after it has said why."""
    connect = _Connect()
    try:
        yield connect
    except SystemExit as end:
        with suppress(RuntimeError):
            if connect.group:
                connect.group.store.set(STATUS_KEY, str(_status(end)))
                connect.group.destroy()
        raise


@contextmanager
def _other_rank() -> Iterator[Connect]:
    """Say nothing, and end as rank 0 does."""
    connect = _Connect()
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            yield connect
    except SystemExit as end:
        status = _status(end)
        if connect.group:
            status = _agree(connect.group, status, end.__context__)
        sys.exit(status)


class _Connect:
    """Connects this process to the other ranks."""

    group: "TorchrunGroup | None" = None

    def __call__(self) -> "TorchrunGroup":
        from rkkd_cli.train.distributed.torchrun import connect

        self.group = connect(os.environ)
        return self.group


def _status(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def from_first(group: "TorchrunGroup | None", look_up: Callable[[], T]) -> T:
    """Return what rank 0 finds on its disk."""
    if group is None:
        return look_up()
    return cast(T, group.broadcast(look_up() if group.is_first else None))


def _agree(group: "TorchrunGroup", status: int, error: BaseException | None) -> int:
    """Tell rank 0 why another rank ends. Return rank 0's exit status if it ends as well."""
    from rkkd_cli.train.distributed.process_group import FAILURE_KEY, LostRankError

    deadline = time.monotonic() + SECONDS_FOR_RANK_ZERO
    is_own = isinstance(error, UserError | RunError | OSError)
    with suppress(RuntimeError):  # the store may be gone with rank 0
        if is_own and not isinstance(error, LostRankError):
            group.store.set(FAILURE_KEY, f"rank {group.rank}: {error}")
        group.destroy()  # so that rank 0 fails in its next collective
        while status and time.monotonic() < deadline:
            if group.store.check([STATUS_KEY]):
                return int(group.store.get(STATUS_KEY))
            time.sleep(0.05)
    return status
