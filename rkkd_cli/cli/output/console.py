"""The two consoles: results on stdout, progress and errors on stderr."""

import os
import sys

from rich.console import Console


class Unhurried(Console):
    """A console whose reader may leave: nobody's ``| head`` ends a training."""

    def on_broken_pipe(self) -> None:
        """Be quiet from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


out = Console()
wide = Console(width=2000)  # for tables of any width: nothing is cut, a terminal wraps them
err = Unhurried(stderr=True)
