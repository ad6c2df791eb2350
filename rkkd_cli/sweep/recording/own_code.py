"""The user's own code in a run: copied and hashed when it begins, compared when it continues."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.untrusted import named_code
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file
from rkkd_cli.plugins import source_files
from rkkd_cli.records.run_directory import RunDirectory

Hashes = dict[str, str]


def read_code(experiment: Experiment) -> dict[str, bytes]:
    """Return the source of the code that the experiment names, by paths for the run's ``code/``.

    A file of another folder whose path is taken gets the beginning of its hash before its path.
    Raises UserError for code that cannot be imported.
    """
    code: dict[str, bytes] = {}
    for kind, spec in named_code(arm.experiment for arm in experiment.resolved_arms):
        for name, content in source_files(kind, spec).items():
            is_taken = code.get(name, content) != content
            code[f"{_hash(content)[:8]}/{name}" if is_taken else name] = content
    return code


def keep_code(run: RunDirectory, code: Mapping[str, bytes], kept: Hashes) -> Hashes:
    """Write the files that are not ``kept`` into the run's folder; return the hashes of all.

    A file that has changed since gets the beginning of its hash before its path.
    """
    hashes = {name: _hash(content) for name, content in code.items()}
    for name, content in code.items():
        if kept.get(name) != hashes[name]:
            folder = run.code / hashes[name][:8] if name in kept else run.code
            _write(folder / name, content)
    return hashes


def changes(code: Mapping[str, bytes], kept: Hashes) -> list[str]:
    """Return the files that a run began with and that are no longer the same."""
    hashes = {name: _hash(content) for name, content in code.items()}
    return [name for name, digest in kept.items() if hashes.get(name) != digest]


def check_code(run: RunDirectory, experiment: Experiment, kept: Hashes, accept: bool) -> list[str]:
    """Return a sentence if the user's code has changed since the run began, and that is accepted.

    Raises UserError if it is not accepted.
    """
    changed = changes(read_code(experiment), kept) if kept else []
    if not changed:
        return []
    has_changed = f"{', '.join(changed)} {'have' if len(changed) > 1 else 'has'} changed"
    if not accept:
        raise UserError(
            f"{has_changed} since run {run.name!r} was trained, and other code may give other "
            f"numbers; put back {copies_of(run, changed, kept)}, start a new run, or take the "
            "change with --accept-changed-code"
        )
    return [f"{has_changed} since the run began, and --accept-changed-code took the change"]


def copies_of(run: RunDirectory, names: Sequence[str], kept: Hashes) -> str:
    """Return the paths of the copies of files, as they were when the run was last trained."""
    later = {name: run.code / kept[name][:8] / name for name in names}
    return ", ".join(str(p if p.is_file() else run.code / name) for name, p in later.items())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(content)


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()
