"""Runs the jobs of an experiment one after another in this process."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import load_dataset
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.sweep.check import dataset_request
from rkkd_cli.sweep.jobs import StreamGroup, stream_groups
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.events import DatasetReady, Event, Note, StreamStarted
from rkkd_cli.train.lockstep import train_in_lockstep
from rkkd_cli.train.teacher import Teacher
from rkkd_cli.train.teacher_source import obtain_teacher


def run_jobs(experiment: Experiment, device: torch.device, cache: Path) -> Iterator[Event]:
    """Yield everything that happens, from reading the images to the last epoch."""
    for group in stream_groups(experiment):
        dataset = yield from read_dataset(group.experiment, cache)
        teacher = yield from obtain_teacher(group.experiment, dataset, device, cache)
        for seed in group.seeds:
            yield from _run_stream(group, seed, dataset, teacher)


def prepare_teacher(experiment: Experiment, device: torch.device, cache: Path) -> Iterator[Event]:
    """Train and cache the experiment's teacher, or find it cached."""
    dataset = yield from read_dataset(experiment, cache)
    yield from obtain_teacher(experiment, dataset, device, cache)


def read_dataset(experiment: Experiment, cache: Path) -> Generator[Event, None, Dataset]:
    """Return the dataset; yields a note before and the facts after."""
    yield Note(f"reading the dataset {experiment.dataset.name}")
    dataset = load_dataset(dataset_request(experiment), cache)
    yield DatasetReady(_dataset_facts(dataset))
    return dataset


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


def _run_stream(
    group: StreamGroup, seed: int, dataset: Dataset, teacher: Teacher
) -> Iterator[Event]:
    recipe = group.experiment.training
    stream = Stream(dataset, teacher.device, recipe.batch_size, seed)
    arms = [ArmOnStream(arm, seed, teacher) for arm in group.arms]
    held_out = {"test": DeviceImages(dataset.test, dataset, teacher.device)}
    if dataset.val is not None:
        held_out["val"] = DeviceImages(dataset.val, dataset, teacher.device)
    yield StreamStarted(seed, group.arms, recipe.epochs, len(stream))
    yield from train_in_lockstep(stream, teacher, arms, recipe.epochs, held_out)
