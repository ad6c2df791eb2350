"""The cached teacher logits of streams, under a key of everything that determines them."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.config.cache_modes import kept_classes
from rkkd_cli.config.experiment import TeacherConfig
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.untrusted import is_own_model
from rkkd_cli.data.class_batches import per_class
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.stream import batch_slices
from rkkd_cli.errors import unknown_name
from rkkd_cli.files import write_atomically
from rkkd_cli.plugins import source_hash
from rkkd_cli.records.environment import processor
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.sources import Sources
from rkkd_cli.train.device import describe_device
from rkkd_cli.train.teacher.logit_cache import LogitCache, LogitCaches
from rkkd_cli.train.teacher.model import Teacher

FOLDER, FACTS_FILE = "teacher-outputs", "stream.json"


def logit_cache_of(job: Job, sources: Sources, cache: Path) -> LogitCache | LogitCaches | None:
    """Return the cache of the teacher's logits on the job's stream, if the job uses one.

    Several teachers have one each.
    """
    experiment, dataset = job.experiment, sources.dataset
    if experiment.cache_teacher == "off" or not isinstance(dataset, Dataset):
        return None
    if isinstance(sources.teacher, Teacher):
        return _cache_of(job, dataset, sources.teacher, experiment.teacher, cache)
    return LogitCaches(
        {
            name: _cache_of(job, dataset, teacher, experiment.teachers[name], cache)
            for name, teacher in sources.teacher.members.items()
        }
    )


def _cache_of(
    job: Job, dataset: Dataset, teacher: Teacher, config: TeacherConfig, cache: Path
) -> LogitCache:
    """Return the cache of a teacher's logits on the job's stream.

    The key covers the images, their order and augmentation, the teacher's weights, its options, its
    source if it is a model of the user's, what is kept (of the top classes also the temperatures at
    which the rest is), and what changes the last bits: precision, device, threads, processor and
    PyTorch.
    """
    mode, training = job.experiment.cache_teacher, job.experiment.training
    assert mode != "off"
    temperatures: list[float] = []
    if kept_classes(mode) is not None:
        temperatures = sorted({arm.experiment.method.temperature for arm in job.arms})
    parts: dict[str, Any] = {
        "version": NUMBERS_VERSION,
        "dataset": dataset.fingerprint,
        "augmentation": dataset.augmentation,
        "batch_size": training.batch_size,
        "last_batch": training.last_batch,
        "seed": job.seed,
        "teacher": teacher.fingerprint,
        "precision": teacher.precision,
        "kind": mode,
        "where": (describe_device(teacher.device), processor(), torch.__version__),
    }
    by_class = per_class(training.per_class, training.batches_per_epoch)
    if by_class is not None:
        parts["per_class"] = by_class
    if temperatures:
        parts["temperatures"] = temperatures
    if config.options:
        parts["options"] = config.options
    if not teacher.input.is_same:
        parts["input"] = teacher.input.own
    if is_own_model(config.model):
        parts["code"] = source_hash("model", config.model)
    text = json.dumps(parts, sort_keys=True)
    folder = cache / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    facts = {
        "model": config.model,
        "dataset": dataset.name,
        "seed": job.seed,
        "kind": mode,
    }
    with suppress(OSError):  # LogitCache reports that nothing can be written
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FACTS_FILE, json.dumps(facts))
    batches = batch_slices(len(dataset.train), training.batch_size, training.last_batch, by_class)
    images, classes = batches[-1].stop, teacher.num_classes
    return LogitCache(folder, mode, images, classes, temperatures)


def describe_logit_cache(cache: LogitCache | LogitCaches, epochs: int) -> str:
    """Return how many epochs are cached, the size of each and of all, and that of an image."""
    cached = len(cache.cached_epochs() & set(range(1, epochs + 1)))
    size = format_bytes(cache.bytes_per_epoch)
    total = format_bytes(epochs * cache.bytes_per_epoch)
    return (
        f"the teacher's outputs: {cached} of {epochs} epochs are kept, {size} each"
        f"{_of_an_image(cache)}, {total} in all, in {cache.folder}"
    )


def _of_an_image(cache: LogitCache | LogitCaches) -> str:
    """Return the bytes of an image where they are not those of all its logits."""
    if not isinstance(cache, LogitCache) or kept_classes(cache.mode) is None:
        return ""
    return f" ({cache.rows.dtype.itemsize} bytes an image, and {4 * cache.classes} for all logits)"


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that gives one or more."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


class CachedStream(NamedTuple):
    """The cached teacher logits of one stream."""

    key: str
    facts: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(path.stat().st_size for path in self.files)


def cached_streams(cache: Path) -> list[CachedStream]:
    """Return all cached streams, the most recently written last."""
    folders = [path for path in (cache / FOLDER).glob("*/") if path.is_dir()]
    return [
        CachedStream(folder.name, _read_facts(folder), tuple(sorted(folder.glob("*.npy"))))
        for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime)
    ]


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def evict(cache: Path, key: str) -> int:
    """Remove a cached stream, or ``all``; return how many bytes. Raises UserError."""
    streams = {stream.key: stream for stream in cached_streams(cache)}
    if key != "all" and key not in streams:
        raise unknown_name("key of teacher outputs", key, ["all", *streams])
    evicted = list(streams.values()) if key == "all" else [streams[key]]
    freed = sum(stream.bytes for stream in evicted)
    for stream in evicted:
        shutil.rmtree(cache / FOLDER / stream.key)
    return freed
