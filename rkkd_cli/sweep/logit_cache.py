"""Where a job's teacher outputs are kept: under a key of everything that determines them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.errors import unknown_name
from rkkd_cli.files import write_whole
from rkkd_cli.records.environment import processor
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.sources import Sources
from rkkd_cli.train.device import describe_device
from rkkd_cli.train.teacher.logit_cache import LogitCache

FOLDER, FACTS = "teacher-outputs", "stream.json"


def logit_cache_of(job: Job, sources: Sources, cache: Path) -> LogitCache | None:
    """Return where the job's stream finds and keeps what its teacher says, if it does so.

    The key covers the images, their order and augmentation, the teacher's weights, and what moves
    last bits: precision, device, threads, processor and PyTorch.
    """
    kind = job.experiment.cache_teacher
    if kind == "off":
        return None
    dataset, teacher = sources.dataset, sources.teacher
    parts = {
        "version": NUMBERS_VERSION,
        "dataset": dataset.fingerprint,
        "augmentation": dataset.augmentation,
        "batch_size": job.experiment.training.batch_size,
        "seed": job.seed,
        "teacher": teacher.fingerprint,
        "precision": teacher.precision,
        "kind": kind,
        "where": (describe_device(teacher.device), processor(), torch.__version__),
    }
    text = json.dumps(parts, sort_keys=True)
    folder = cache / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    facts = {"model": job.experiment.teacher.model, "dataset": dataset.name, "seed": job.seed,
             "kind": kind}  # fmt: skip
    _tell(folder, facts)
    return LogitCache(folder, kind, len(dataset.train), teacher.num_classes)


def _tell(folder: Path, facts: dict[str, Any]) -> None:
    """Write beside the outputs what they are, for `rkkd teacher outputs`, if that is possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FACTS, json.dumps(facts))
    except OSError:
        return  # what keeps the outputs says why


def describe_logit_cache(outputs: LogitCache, epochs: int) -> str:
    """Return what there is of the outputs, and how large they become."""
    there = len(outputs.epochs_there() & set(range(1, epochs + 1)))
    size = format_bytes(outputs.bytes_an_epoch)
    whole = format_bytes(epochs * outputs.bytes_an_epoch)
    return (
        f"the teacher's outputs: {there} of {epochs} epochs are kept, {size} each, {whole} in all, "
        f"in {outputs.folder}"
    )


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that gives one or more."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


class CachedStream(NamedTuple):
    """The outputs of one stream in the cache."""

    key: str
    facts: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(path.stat().st_size for path in self.files)


def cached_streams(cache: Path) -> list[CachedStream]:
    """Return the outputs of all streams, the most recently written last."""
    folders = [path for path in (cache / FOLDER).glob("*/") if path.is_dir()]
    found = [
        CachedStream(one.name, _facts(one), tuple(sorted(one.glob("*.npy")))) for one in folders
    ]
    return sorted(found, key=lambda one: (cache / FOLDER / one.key).stat().st_mtime)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def evict(cache: Path, key: str) -> int:
    """Remove the outputs of a stream, or of ``all``; return how many bytes. Raises UserError."""
    kept = {one.key: one for one in cached_streams(cache)}
    if key != "all" and key not in kept:
        raise unknown_name("key of teacher outputs", key, ["all", *kept])
    chosen = list(kept.values()) if key == "all" else [kept[key]]
    freed = sum(one.bytes for one in chosen)
    for one in chosen:
        shutil.rmtree(cache / FOLDER / one.key)
    return freed
