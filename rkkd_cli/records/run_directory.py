"""``results/<run>/``: the folder with the experiment, manifest, metrics and figures of a run."""

import os
import shlex
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import BaseFileLock

from rkkd_cli.config.experiment import ARM_NAME
from rkkd_cli.config.presets import recorded_arms
from rkkd_cli.errors import RunError, UserError, nearest
from rkkd_cli.files import read_file, try_lock, write_atomically, write_problem
from rkkd_cli.records import DEFAULT_RESULTS
from rkkd_cli.records.manifest import Manifest, manifest_text, parse_manifest
from rkkd_cli.records.metrics import metrics_sha256, read_metrics

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT, MANIFEST, METRICS = "experiment.toml", "manifest.json", "metrics.csv"
FIGURES, CHECKPOINTS, CODE = "figures", "checkpoints", "code"
RETRIEVAL = "retrieval"
LOCK, HOLDER = ".lock", ".holder"  # the latter has the number of the process that has the former
AUTO = "auto"  # a value of --resume, so no run's name


class RunDirectory:
    """The files of one run.

    ``metrics`` is the file of the rows per arm, seed and epoch, ``experiment`` that of the resolved
    experiment; ``checkpoints`` has one folder per stream, ``code`` the user's own code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics, self.experiment = path / METRICS, path / EXPERIMENT
        self.figures, self.checkpoints = path / FIGURES, path / CHECKPOINTS
        self.code = path / CODE
        self.lock: BaseFileLock | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.absolute().name

    @property
    def handle(self) -> str:
        """The word that names this run in a command: its name, or its folder if elsewhere."""
        return shlex.quote(self.name if self.path.parent == DEFAULT_RESULTS else str(self.path))

    def weights(self, kind: str, arm: str, seed: int) -> Path:
        """The file with a student's weights.

        ``final``: after its last epoch. ``best``: after its best one, kept if training.monitor or
        patience is set. ``ema``: their moving averages after the last epoch, with
        training.ema_decay.
        """
        return self.path / kind / f"{arm}-seed{seed}.safetensors"

    def retrieval(self, arm: str) -> Path:
        """The file with what an arm finds for some test images, of a task that searches."""
        return self.path / RETRIEVAL / f"{arm}.safetensors"

    def acquire(self) -> None:
        """Lock the run until :meth:`release`, or until this process ends.

        Raises UserError if another process has locked it.
        """
        self.lock = try_lock(self.path / LOCK)
        if self.lock is None:
            raise UserError(
                f"run {self.name!r} is in use by {self.holder()}; wait for its end, or stop it"
            )
        with suppress(OSError):  # it is only for messages
            (self.path / HOLDER).write_text(str(os.getpid()), encoding="utf-8")

    def release(self) -> None:
        """Unlock the run."""
        if self.lock is not None:
            with suppress(OSError):
                (self.path / HOLDER).unlink()
            self.lock.release()
            self.lock = None

    def holder(self) -> str:
        """Return a name of the process that has locked the run."""
        with suppress(OSError, ValueError):
            return f"process {int(read_file(self.path / HOLDER, most=20))}"
        with suppress(UserError):
            process = self.read_manifest().process
            return f"process {process}" if process else "another process"
        return "another process"

    def is_held(self) -> bool:
        """Whether a living process has locked the run."""
        if self.lock is not None:
            return True
        if not (self.path / LOCK).exists():
            return False
        try:
            lock = try_lock(self.path / LOCK)
        except OSError:  # another user's run, which we may only read: trust its manifest
            return True
        if lock is not None:
            lock.release()
        return lock is None

    def status(self, manifest: Manifest) -> str:
        """Return the manifest's status, or ``dead`` if it says ``running`` but no process runs."""
        dead = manifest.status == "running" and not self.is_held()
        return "dead" if dead else manifest.status

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises UserError if it is missing or damaged."""
        path = self.path / MANIFEST
        try:
            return parse_manifest(read_file(path).decode(), str(path))
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run directory: it has no {MANIFEST}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is damaged: {error}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None

    def launch(self) -> str | None:
        """Return the torchrun launch that began the run, or None if none did or it is unknown."""
        with suppress(UserError):
            return self.read_manifest().launch
        return None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest atomically."""
        write_atomically(self.path / MANIFEST, manifest_text(manifest))

    def read_metrics(self, manifest: Manifest) -> "pd.DataFrame":
        """Return the metrics. Those of an ended run must have the hash in its manifest.

        Raises UserError if they are missing or damaged.
        """
        try:
            frame = read_metrics(self.metrics)
            self._check_arms(frame)
        except UserError as error:
            raise UserError(f"{error}; `rkkd resume {self.handle}` mends what can be") from None
        expected = manifest.metrics_sha256
        if expected is not None and metrics_sha256(self.metrics) != expected:
            raise UserError(
                f"{self.metrics} has been changed since the run wrote it; `rkkd resume "
                f"{self.handle}` restores it from the checkpoints"
            )
        return frame

    def _check_arms(self, metrics: "pd.DataFrame") -> None:
        """Raise UserError for rows of an arm that the run does not have."""
        known = recorded_arms(self.experiment)
        unknown = set() if known is None else {*metrics["arm"]} - known
        if unknown:
            raise UserError(
                f"{self.metrics} has rows of arm {min(unknown)!r}, which {EXPERIMENT} does not name"
            )


def new_name(label: str, now: datetime) -> str:
    """Return the name of a run without a name of its own: the preset and the time."""
    return f"{label[:44]}-{now:%Y%m%d-%H%M%S}"


def check_free(out: Path, name: str, or_next: bool = False) -> None:
    """Raise UserError if the name is taken or unusable, or the folder cannot be written.

    With ``or_next`` the name may be taken: see :func:`create_run_directory`.
    """
    check_name(name)
    problem = write_problem(out)
    if problem:
        raise UserError(f"cannot write to the output folder {out}: {problem}")
    if or_next or not (out / name).exists():
        return
    run = RunDirectory(out / name)
    if run.is_held():
        raise UserError(f"run {name!r} is in use by {run.holder()}; choose another --name")
    if not never_began(run.path):
        raise UserError(
            f"run {name!r} exists in {out}; resume it, choose another --name, "
            f"or move {out / name} away"
        )


def check_name(name: str) -> None:
    """Raise UserError for a name that cannot name a folder, or has a meaning for ``--resume``."""
    if not ARM_NAME.fullmatch(name):
        raise UserError(f"run name {name!r}: use letters, digits and _ . + = -, at most 64")
    if name == AUTO:
        raise UserError(
            f"run name {name!r}: `--resume auto` has a meaning of its own; take another"
        )


def create_run_directory(out: Path, name: str, or_next: bool = False) -> RunDirectory:
    """Create and lock the directory of a new run.

    The directory of a run that was killed before it began is used again. With ``or_next``, for
    names that the user did not choose, a taken name gets the suffix ``-2``, ``-3`` and so on.
    Raises UserError or RunError.
    """
    path, suffix = out / name, 1
    try:
        out.mkdir(parents=True, exist_ok=True)
        while or_next and path.exists():
            suffix += 1
            path = out / f"{name}-{suffix}"
        path.mkdir()
    except FileExistsError:
        if not never_began(path):
            raise UserError(f"run {path.name!r} exists in {out}; choose another --name") from None
    except OSError as error:
        raise RunError(f"cannot create {path}: {error.strerror}") from None
    run = RunDirectory(path)
    run.acquire()
    return run


def never_began(path: Path) -> bool:
    """Whether the folder is empty, or has only what a run leaves that was killed as it began."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    visible = {name for name in names if not name.startswith(".")}
    is_new = LOCK in names and visible <= {EXPERIMENT, METRICS, CODE}
    return not names or (is_new and not _has_rows(path / METRICS))


def _has_rows(metrics: Path) -> bool:
    """Whether a file of metrics has more than its header, or cannot be read."""
    try:
        return read_file(metrics).count(b"\n") > 1
    except FileNotFoundError:
        return False
    except OSError:
        return True


def is_run(path: Path) -> bool:
    """Whether the folder is that of a run that has begun, perhaps a damaged one."""
    return (path / MANIFEST).is_file() or (path / CHECKPOINTS).is_dir()


def find_runs(out: Path) -> list[RunDirectory]:
    """Return the runs in ``out``, in the order in which they started."""

    def start_time(run: RunDirectory) -> str:
        with suppress(UserError):
            return run.read_manifest().started
        return ""

    return sorted((RunDirectory(path.parent) for path in out.glob(f"*/{MANIFEST}")), key=start_time)


def open_run(run: str, out: Path) -> RunDirectory:
    """Return a run by its name in ``out``, or by its path. Raises UserError."""
    for path in (out / run, Path(run)):
        if is_run(path):
            return RunDirectory(path)
    if Path(run).is_dir() or (out / run).is_dir():
        raise UserError(f"{run} is no run directory: it has no {MANIFEST}")
    close = nearest(run, [known.name for known in find_runs(out)])
    hint = f"; did you mean {close!r}?" if close else "; `rkkd ls runs` lists them"
    raise UserError(f"no run {run!r} in {out}{hint}")


def newest_run(out: Path) -> RunDirectory:
    """Return the run that started last. Raises UserError if there is none."""
    runs = find_runs(out)
    if not runs:
        raise UserError(f"there are no runs in {out}; `rkkd run` makes one")
    return runs[-1]
