"""Messages that rank 0 leaves in torchrun's store for the other ranks, which poll for them.

A collective would time out while rank 0 downloads images or waits for a teacher that another
process trains. Polling does not, and signals are handled meanwhile.
"""

import re
import time
from contextlib import suppress

from torch._C._distributed_c10d import Store

from rkkd_cli.errors import RunError

POLL_SECONDS = 0.05
SECONDS_TO_LEAVE = 5.0

STATUS_KEY, LEFT_KEY = "over", "left"  # in the store


class Dismissed(Exception):  # noqa: N818  # no error: rank 0 has ended
    """Rank 0 has ended with this exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ControlChannel:
    """Rank 0 sends messages; each other rank receives all of them in order."""

    def __init__(self, store: Store) -> None:
        self.store, self.index = store, 0

    def send(self, message: str) -> None:
        """Leave the next message."""
        self.store.set(f"message {self.index}", message)
        self.index += 1

    def receive(self) -> str:
        """Wait for the next message. Raises Dismissed if there will be none, or RunError."""
        try:
            while not self.store.check([f"message {self.index}"]):
                if self.store.check([STATUS_KEY]):
                    raise Dismissed(int(self.store.get(STATUS_KEY)))
                time.sleep(POLL_SECONDS)
            self.index += 1
            return self.store.get(f"message {self.index - 1}").decode()
        except RuntimeError as error:
            raise RunError(f"rank 0 is gone ({first_sentence(error)})") from None

    def dismiss(self, status: int, ranks: int) -> None:
        """Let so many other ranks end with this exit status; wait a moment until they have."""
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        with suppress(RuntimeError):  # if the store is gone, the other ranks notice that as well
            self.store.set(STATUS_KEY, str(status))
            while self.store.add(LEFT_KEY, 0) < ranks and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def wait_for_dismissal(self, seconds: float) -> int | None:
        """Return rank 0's exit status if it ends within so many seconds."""
        deadline = time.monotonic() + seconds
        try:
            while not self.store.check([STATUS_KEY]):
                if time.monotonic() > deadline:
                    return None
                time.sleep(POLL_SECONDS)
            return int(self.store.get(STATUS_KEY))
        except RuntimeError:
            return None

    def report_left(self) -> None:
        """Tell rank 0 that this rank has ended."""
        with suppress(RuntimeError):
            self.store.add(LEFT_KEY, 1)


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error of torch.distributed, without its code location."""
    first_line = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[[^]]*\] *", "", first_line).partition(". ")[0]
