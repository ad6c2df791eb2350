"""Words that rank 0 leaves in torchrun's store for the other ranks, which poll for them.

A collective would time out while rank 0 downloads images or waits for a teacher that another
process trains; polling does not, and a signal is handled meanwhile.
"""

import re
import time
from contextlib import suppress

from torch._C._distributed_c10d import Store

from rkkd_cli.errors import RunError

POLL_SECONDS = 0.05
SECONDS_TO_LEAVE = 5.0

OVER, LEFT = "over", "left"  # keys of the store


class Dismissed(Exception):  # noqa: N818  # no error: rank 0 has ended
    """Rank 0 has ended with this exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ControlChannel:
    """One direction: rank 0 sends, the others receive the same words in the same order."""

    def __init__(self, store: Store) -> None:
        self.store, self.index = store, 0

    def send(self, word: str) -> None:
        """Leave the next word."""
        self.store.set(f"word {self.index}", word)
        self.index += 1

    def receive(self) -> str:
        """Wait for the next word. Raises Dismissed when there will be none, or RunError."""
        try:
            while not self.store.check([f"word {self.index}"]):
                if self.store.check([OVER]):
                    raise Dismissed(int(self.store.get(OVER)))
                time.sleep(POLL_SECONDS)
            self.index += 1
            return self.store.get(f"word {self.index - 1}").decode()
        except RuntimeError as error:
            raise RunError(f"the first rank has gone ({reason(error)})") from None

    def dismiss(self, status: int, others: int) -> None:
        """Let the other ranks end with this exit status; wait a moment until they have."""
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        with suppress(RuntimeError):  # where the store has gone, they see that too
            self.store.set(OVER, str(status))
            while self.store.add(LEFT, 0) < others and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def dismissal(self, seconds: float) -> int | None:
        """Return rank 0's exit status if it ends within so many seconds."""
        deadline = time.monotonic() + seconds
        try:
            while not self.store.check([OVER]):
                if time.monotonic() > deadline:
                    return None
                time.sleep(POLL_SECONDS)
            return int(self.store.get(OVER))
        except RuntimeError:
            return None

    def say_left(self) -> None:
        """Tell rank 0 that this rank is done."""
        with suppress(RuntimeError):
            self.store.add(LEFT, 1)


def reason(error: Exception) -> str:
    """Return the first sentence of an error of torch.distributed, without its code location."""
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[[^]]*\] *", "", first).partition(". ")[0]
