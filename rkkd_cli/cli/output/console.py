"""The consoles: results go to stdout, progress and errors to stderr."""

import os
import sys

from rich.console import Console

from rkkd_cli.errors import printable


class PipeSafeConsole(Console):
    """A console that falls silent when its reader leaves, so that ``| head`` ends no training."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


out = Console()
wide = Console(width=2000)  # for tables of any width: nothing is cut, a terminal wraps them
err = PipeSafeConsole(stderr=True)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print plain text on one line: no markup, highlighting or wrapping; see :func:`printable`."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)
