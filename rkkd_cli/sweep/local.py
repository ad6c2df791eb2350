"""Runs the jobs of an experiment one after another in this process."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import load_dataset
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.sweep.begun import Begun
from rkkd_cli.sweep.check import dataset_request
from rkkd_cli.sweep.jobs import StreamGroup, stream_groups
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.events import (
    BatchDone,
    Checkpoint,
    DatasetReady,
    EpochDone,
    Event,
    Note,
    StreamStarted,
    Tick,
)
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.pace import Pace
from rkkd_cli.train.teacher_source import obtain_teacher


def run_jobs(begun: Begun, device: torch.device, cache: Path, pace: Pace) -> Iterator[Event]:
    """Yield everything that happens, from reading the images to the last epoch.

    Streams that have ``begun`` before go on where they are; those that are done do nothing.
    """
    for group in stream_groups(begun.experiment):
        if any(not begun.is_done(group, seed) for seed in group.seeds):
            yield from _run_group(group, device, cache, pace, begun)


def _run_group(
    group: StreamGroup, device: torch.device, cache: Path, pace: Pace, begun: Begun
) -> Iterator[Event]:
    dataset = yield from read_dataset(group.experiment, cache)
    begun.check_dataset(group, dataset.fingerprint)
    yield DatasetReady(_dataset_facts(dataset))
    teacher, ready = yield from obtain_teacher(
        group.experiment, dataset, device, cache, pace, begun.teachers
    )
    begun.check_teacher(group, teacher.fingerprint)
    yield ready
    sources = {"dataset": dataset.fingerprint, "teacher": teacher.fingerprint}
    splits = {"test": dataset.test} | ({"val": dataset.val} if dataset.val else {})
    held_out = {
        name: teacher.teach(DeviceImages(split, dataset, device)) for name, split in splits.items()
    }
    for seed in group.seeds:
        if begun.is_done(group, seed):
            continue
        recipe = group.experiment.training
        stream = Stream(dataset, device, recipe.batch_size, seed)
        arms = [ArmOnStream(arm, seed, teacher) for arm in group.arms]
        name = group.stream(seed)
        lockstep = Lockstep(name, stream, teacher, arms, recipe.epochs, held_out)
        if name in begun.states:
            lockstep.load(begun.states[name]["lockstep"])
        yield StreamStarted(
            name,
            seed,
            tuple(arm for arm in group.arms if arm.name in {one.name for one in lockstep.active}),
            recipe.epochs,
            len(stream),
            lockstep.epochs_done,
            lockstep.batches_done,
        )
        yield from _train(lockstep, sources, pace)


def _train(lockstep: Lockstep, sources: dict[str, str], pace: Pace) -> Iterator[Event]:
    """Train to the end; yields a checkpoint whenever one is due."""
    with pace.deferring():
        for event in lockstep.train():
            yield event
            may_leave = isinstance(event, BatchDone | Tick | EpochDone)
            if may_leave and pace.due(isinstance(event, EpochDone)):
                yield from lockstep.stop_diverged()
                state = {"lockstep": lockstep.state(), "sources": sources}
                yield Checkpoint(lockstep.name, state)
                pace.leave_if_asked()


def prepare_teacher(
    experiment: Experiment, device: torch.device, cache: Path, pace: Pace
) -> Iterator[Event]:
    """Train and cache the experiment's teacher, or find it cached."""
    dataset = yield from read_dataset(experiment, cache)
    yield DatasetReady(_dataset_facts(dataset))
    _, ready = yield from obtain_teacher(experiment, dataset, device, cache, pace)
    yield ready


def read_dataset(experiment: Experiment, cache: Path) -> Generator[Event, None, Dataset]:
    """Return the dataset; yields a note before."""
    yield Note(f"reading the dataset {experiment.dataset.name}")
    return load_dataset(dataset_request(experiment), cache)


def _dataset_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
        "test_images": len(dataset.test),
        "classes": len(dataset.classes),
        "image_shape": list(dataset.train.images.shape[1:]),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "crop_padding": dataset.crop_padding,
        "flip": dataset.flip,
        "fingerprint": dataset.fingerprint,
    }
