"""``results/<run>/``: where one run keeps its experiment, manifest, metrics and figures."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from rkkd_cli.config.experiment import ARM_NAME
from rkkd_cli.errors import RunError, UserError, nearest
from rkkd_cli.files import write_problem, write_whole

EXPERIMENT, MANIFEST, METRICS, FIGURES = (
    "experiment.toml",
    "manifest.json",
    "metrics.csv",
    "figures",
)


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """The rows per arm, seed and epoch."""
        return self.path / METRICS

    @property
    def experiment(self) -> Path:
        """The resolved experiment."""
        return self.path / EXPERIMENT

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / FIGURES

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest. Raises UserError where it is missing or damaged."""
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run directory: it has no {MANIFEST}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        if not isinstance(manifest, dict):
            raise UserError(f"{path} is damaged: it holds no object")
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, whole or not at all."""
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(self.path / MANIFEST, text + "\n")


def new_name(label: str, now: datetime) -> str:
    """Return the name of a run that was given none: the preset and the time."""
    return f"{label}-{now:%Y%m%d-%H%M%S}"


def check_free(out: Path, name: str, or_next: bool = False) -> None:
    """Raise UserError for a name that is taken or unusable, and a folder that cannot be written."""
    if not ARM_NAME.fullmatch(name):
        raise UserError(f"run name {name!r}: use letters, digits and _ . + = -, at most 64")
    problem = write_problem(out)
    if problem:
        raise UserError(f"cannot write to the output folder {out}: {problem}")
    if (out / name).exists() and not or_next:
        raise UserError(
            f"run {name!r} exists in {out}; choose another --name, or move {out / name} away"
        )


def create_run_directory(out: Path, name: str, or_next: bool = False) -> RunDirectory:
    """Make the directory of a new run, which must not exist.

    With ``or_next`` a taken name is followed by ``-2``, ``-3`` and so on: for names that nobody
    chose. Raises UserError or RunError.
    """
    path, number = out / name, 1
    try:
        out.mkdir(parents=True, exist_ok=True)
        while or_next and path.exists():
            number += 1
            path = out / f"{name}-{number}"
        path.mkdir()
    except FileExistsError:
        raise UserError(f"run {path.name!r} exists in {out}; choose another --name") from None
    except OSError as error:
        raise RunError(f"cannot create {path}: {error.strerror}") from None
    return RunDirectory(path)


def find_runs(out: Path) -> list[RunDirectory]:
    """Return the runs in ``out``, the one started last at the end."""
    runs = [RunDirectory(path.parent) for path in out.glob(f"*/{MANIFEST}")]
    return sorted(runs, key=_started)


def _started(run: RunDirectory) -> str:
    try:
        return str(run.read_manifest().get("started", ""))
    except UserError:
        return ""


def open_run(run: str, out: Path) -> RunDirectory:
    """Return a run by name (in ``out``) or by path. Raises UserError."""
    for path in (out / run, Path(run)):
        if (path / MANIFEST).is_file():
            return RunDirectory(path)
    if Path(run).is_dir():
        raise UserError(f"{run} is no run directory: it has no {MANIFEST}")
    close = nearest(run, [one.name for one in find_runs(out)])
    hint = f"; did you mean {close!r}?" if close else "; `rkkd ls runs` lists them"
    raise UserError(f"no run {run!r} in {out}{hint}")


def newest_run(out: Path) -> RunDirectory:
    """Return the run that was started last. Raises UserError where there is none."""
    runs = find_runs(out)
    if not runs:
        raise UserError(f"there are no runs in {out}; `rkkd run` makes one")
    return runs[-1]
