"""The file that a command writes: whether it can, and may."""

from pathlib import Path

from rkkd_cli.errors import UserError
from rkkd_cli.files import write_problem


def check_target(path: Path, force: bool) -> None:
    """Raise UserError if a file cannot be written there, or is there and not to be replaced."""
    if not path.parent.is_dir():
        raise UserError(f"no folder {path.parent} to write {path.name} into")
    problem = write_problem(path.parent)
    if problem:
        raise UserError(f"cannot write {path}: {problem}")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give another name with --to, or --force to replace it")
