"""Words that the first rank leaves for the others, who look for them now and then.

So no wait is too long (for a download, say, or for a teacher that another process trains), and a
signal is heard meanwhile.
"""

import re
import time
from contextlib import suppress

from torch._C._distributed_c10d import Store

from rkkd_cli.errors import RunError

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_LEAVE = 5.0

OVER, LEFT = "over", "left"


class Dismissed(Exception):  # noqa: N818  # no error: the first rank has ended
    """The first rank has ended with this exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Messages:
    """One direction: the first rank tells, the others hear the same words in the same order."""

    def __init__(self, store: Store) -> None:
        self.store, self.number = store, 0

    def tell(self, word: str) -> None:
        """Leave the next word."""
        self.store.set(f"word {self.number}", word)
        self.number += 1

    def hear(self) -> str:
        """Wait for the next word. Raises Dismissed when there will be none, or RunError."""
        try:
            while not self.store.check([f"word {self.number}"]):
                if self.store.check([OVER]):
                    raise Dismissed(int(self.store.get(OVER)))
                time.sleep(SECONDS_BETWEEN_LOOKS)
            self.number += 1
            return self.store.get(f"word {self.number - 1}").decode()
        except RuntimeError as error:
            raise RunError(f"the first rank has gone ({reason(error)})") from None

    def dismiss(self, status: int, others: int) -> None:
        """Let the others end with this exit status, and wait a moment until they have."""
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        with suppress(RuntimeError):  # where the store has gone, they see that too
            self.store.set(OVER, str(status))
            while self.store.add(LEFT, 0) < others and time.monotonic() < deadline:
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def dismissal(self, seconds: float) -> int | None:
        """Return the exit status of a first rank that ends within so many seconds."""
        deadline = time.monotonic() + seconds
        try:
            while not self.store.check([OVER]):
                if time.monotonic() > deadline:
                    return None
                time.sleep(SECONDS_BETWEEN_LOOKS)
            return int(self.store.get(OVER))
        except RuntimeError:
            return None

    def say_left(self) -> None:
        """Tell the first rank that this one is done."""
        with suppress(RuntimeError):
            self.store.add(LEFT, 1)


def reason(error: Exception) -> str:
    """Return what torch.distributed says is wrong, without where its code says so."""
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[[^]]*\] *", "", first).partition(". ")[0]
