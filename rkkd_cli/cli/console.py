"""The two consoles: results on stdout, progress and errors on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

out = Console()
err = Console(stderr=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into one line and exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("rkkd: interrupted", style="red")
        raise SystemExit(130) from None
