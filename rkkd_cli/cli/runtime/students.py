"""What the commands that use trained students have in common."""

from pathlib import Path

from rkkd_cli.cli.output.console import err, print_line
from rkkd_cli.records.run_directory import RunDirectory, open_run
from rkkd_cli.sweep.students.student import code_notes


def open_trained(run: str, out: Path) -> RunDirectory:
    """Return the run; warn if the user's own code in it has changed since. Raises UserError."""
    opened = open_run(run, out)
    for note in code_notes(opened):
        print_line(err, f"rkkd: warning: {note}", style="yellow")
    return opened
