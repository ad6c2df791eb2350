"""The consoles: results go to stdout, progress and errors to stderr.

Only a terminal that can redraw its lines has a width. In a pipe, a file or a dumb terminal, lines
are as long as they are.
"""

import os
import re
import sys
import textwrap

from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table

from rkkd_cli.errors import printable

ANY_WIDTH = 100_000
BLANKS_AT_END = re.compile(r" +((?:\x1b\[0m)?)$", re.MULTILINE)  # also those of a bold heading
MARGIN = 2  # of a live display: room for the ^C that a terminal shows, which would begin a new line


class OutputConsole(Console):
    """A console that folds text where there is a terminal, and only if it is told to."""

    def __init__(self, *, stderr: bool = False, folds: bool = True) -> None:
        super().__init__(stderr=stderr)
        if not (folds and self.is_live):
            self.size = ConsoleDimensions(ANY_WIDTH, 25)

    @property
    def is_live(self) -> bool:
        """Whether lines can be redrawn. FORCE_COLOR makes ``is_terminal`` true for a pipe too."""
        return self.file.isatty() and not self.is_dumb_terminal


class PipeSafeConsole(OutputConsole):
    """A console that falls silent when its reader leaves, so that ``| head`` ends no training."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


out = OutputConsole()
wide = OutputConsole(folds=False)  # nothing is cut, a terminal wraps it
err = PipeSafeConsole(stderr=True)


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print plain text on one line: no markup, highlighting or wrapping; see :func:`printable`."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def print_folded(console: Console, text: str) -> None:
    """Print plain text; a terminal folds it between words."""
    console.print(printable(text), markup=False, highlight=False)


def folded(text: str) -> str:
    """Return lines for stdout; those that a terminal has no room for are folded between words."""
    if not out.is_live:
        return text
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip(" -")))
        lines += textwrap.wrap(
            line, out.width, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=len(line) > out.width,
        ) or [""]  # fmt: skip
    return "\n".join(lines) + "\n" * text.endswith("\n")


def print_table(table: Table) -> None:
    """Print a table on stdout. A terminal too narrow for its words and numbers wraps the lines.

    They end where their last words end, as blanks would be wrapped, too.
    """
    console = out if fits(table, out) else wide
    with console.capture() as captured:
        console.print(table)
    print_text(BLANKS_AT_END.sub(r"\1", captured.get()))


def fits(table: Table, console: Console, margin: int = 0) -> bool:
    """Return whether the console has room for the table's longest words, and all its numbers.

    ``margin`` columns stay free on the right.
    """
    unlimited = console.options.update(max_width=ANY_WIDTH)
    return Measurement.get(console, unlimited, table).minimum + margin <= console.width


def print_text(text: str) -> None:
    """Print text as it is. Unlike ``typer.echo``, which writes UTF-8 where ASCII is wanted."""
    out.file.write(text)
    out.file.flush()
