"""What the commands that use trained students have in common."""

from pathlib import Path

from rkkd_cli.records.run_directory import RunDirectory, open_run
from rkkd_cli.sweep.students.student import check_code


def open_trained(run: str, out: Path) -> RunDirectory:
    """Return the run. Raises UserError, also if the user's own code in it has changed since."""
    opened = open_run(run, out)
    check_code(opened)
    return opened
