"""What jobs train on: the images, the teacher, and its logits on the held-out splits."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import load_dataset
from rkkd_cli.data.images import Dataset, Split
from rkkd_cli.data.stream import DeviceImages, Shard
from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.check import dataset_request
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import DatasetReady, Event, Note
from rkkd_cli.train.metrics.evaluate import EVALUATION_BATCH, TaughtSplit
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.obtain import obtain_teacher


class Sources(NamedTuple):
    """A dataset and its teacher on a device, with the held-out splits that are evaluated.

    ``cache`` is the folder where outputs of the teacher may be kept.
    """

    dataset: Dataset
    teacher: Teacher
    held_out: dict[str, TaughtSplit]
    cache: Path

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells other images and another teacher."""
        return {"dataset": self.dataset.fingerprint, "teacher": self.teacher.fingerprint}


def taught(
    dataset: Dataset, teacher: Teacher, cache: Path, process_group: ProcessGroup = SINGLE_PROCESS
) -> Sources:
    """Return the sources, with the teacher's logits on the held-out splits computed now.

    Each rank has its part of each split. Raises UserError for a split with less than one image a
    rank.
    """
    splits = {"test": dataset.test} | ({"val": dataset.val} if dataset.val else {})
    held_out = {
        name: _part(name, split, dataset, teacher, process_group) for name, split in splits.items()
    }
    return Sources(dataset, teacher, held_out, cache)


def _part(
    name: str, split: Split, dataset: Dataset, teacher: Teacher, process_group: ProcessGroup
) -> TaughtSplit:
    if process_group.world_size > 1:
        if len(split) < process_group.world_size:
            raise UserError(
                f"the {name} split has fewer images ({len(split)}) than there are ranks "
                f"({process_group.world_size}); start fewer, or take more images"
            )
        own, largest = (
            process_group.shard.within(0, len(split)),
            Shard(0, process_group.world_size).within(0, len(split)),
        )
        split = split.take(np.arange(own.start, own.stop))
    else:
        largest = slice(0, len(split))
    images = DeviceImages(split, dataset, teacher.device)
    return teacher.taught_split(images)._replace(batches=-(-largest.stop // EVALUATION_BATCH))


def open_sources(
    experiment: Experiment,
    device: torch.device,
    cache: Path,
    controller: StopController,
    begun: Begun,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Generator[Event, None, Sources]:
    """Return the experiment's sources; yields what happens until they are there.

    Raises UserError where they are not those that the run began with.
    """
    dataset = yield from read_alike(experiment, cache, process_group)
    begun.check_dataset(experiment, dataset.fingerprint)
    yield DatasetReady(dataset_facts(dataset))
    teacher, ready = yield from obtain_teacher(
        experiment, dataset, device, cache, controller, begun.teachers, process_group
    )
    begun.check_teacher(experiment, teacher.fingerprint)
    yield ready
    return taught(dataset, teacher, cache, process_group)


def prepare_teacher(
    experiment: Experiment,
    device: torch.device,
    cache: Path,
    controller: StopController,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Iterator[Event]:
    """Train and cache the experiment's teacher, or find it cached."""
    dataset = yield from read_alike(experiment, cache, process_group)
    yield DatasetReady(dataset_facts(dataset))
    _, ready = yield from obtain_teacher(
        experiment, dataset, device, cache, controller, None, process_group
    )
    yield ready


def read_alike(
    experiment: Experiment, cache: Path, process_group: ProcessGroup
) -> Generator[Event, None, Dataset]:
    """Return the dataset, which the first rank reads before the others: it may download it.

    Raises RunError on a rank that finds other images than the first.
    """
    expected = "" if process_group.is_first else process_group.receive()
    dataset = yield from read_dataset(experiment, cache)
    process_group.send(dataset.fingerprint)
    if expected not in ("", dataset.fingerprint):
        raise RunError(
            f"rank {process_group.rank} reads other images of {experiment.dataset.name} than rank "
            "0; put the same ones on every node"
        )
    return dataset


def read_dataset(experiment: Experiment, cache: Path) -> Generator[Event, None, Dataset]:
    """Return the dataset; yields a note before, and one that it is streamed."""
    yield Note(f"reading the dataset {experiment.dataset.name}")
    dataset = load_dataset(dataset_request(experiment), cache)
    if isinstance(dataset.train, ListedImages):
        processes = dataset.train.decoders.processes
        by = {0: "this process", 1: "1 process"}.get(processes, f"{processes} processes")
        yield Note(
            f"its {len(dataset.train):,} training images are streamed from the disk, in "
            f"{dataset.crop} crops of {dataset.train.size}×{dataset.train.size}, decoded by {by}"
        )
    return dataset


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what the manifest says of a dataset."""
    return {
        "name": dataset.name,
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
        "test_images": len(dataset.test),
        "classes": len(dataset.classes),
        "image_shape": list(dataset.train.shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "streamed": dataset.is_streamed,
        "crop": dataset.crop,
        "crop_padding": dataset.crop_padding,
        "flip": dataset.flip,
        "fingerprint": dataset.fingerprint,
    }
