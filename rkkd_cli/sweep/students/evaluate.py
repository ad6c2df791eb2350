"""Measures a trained student on a split of its run's dataset, or on another folder of images."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.folder_scan import SPLIT_NAMES
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.sweep.students.predict import images_below, is_stray, logits_of_files
from rkkd_cli.sweep.students.student import Student, check_classifiers
from rkkd_cli.train.metrics.evaluate import all_outputs

TOP = 5


class Measured(NamedTuple):
    """A student's accuracies in percent, and its mean cross-entropy, on so many images."""

    images: int
    acc: float
    top5: float
    ce: float

    @property
    def metrics(self) -> dict[str, float]:
        """Return all but the number of images, by name."""
        return {"acc": self.acc, "top5": self.top5, "ce": self.ce}


def evaluate_split(
    students: Sequence[Student], split: str, cache: Path, device: torch.device
) -> Iterator[Measured]:
    """Measure each student on a split of its run's images, normalised as in the run.

    Raises UserError if the run has no such split, or if its images are not there any more.
    """
    check_classifiers(students)
    read: dict[DatasetRequest, DeviceImages] = {}
    for student in students:
        facts, precision = student.facts, student.experiment.precision
        request = replace(dataset_request(student.experiment), mean=facts.mean, std=facts.std)
        if request not in read:
            read[request] = _read_split(request, split, cache, device)
        logits = all_outputs(student.module.to(device), read[request], precision, facts.input)
        yield measure(logits, read[request].labels)


def _read_split(
    request: DatasetRequest, split: str, cache: Path, device: torch.device
) -> DeviceImages:
    dataset = load_dataset(request, cache)
    images = {"test": dataset.test, "val": dataset.val, "train": dataset.train}[split]
    if images is None:
        raise UserError("the run has no validation images; --split takes test or train")
    return DeviceImages(images, dataset, device)


def evaluate_folder(
    students: Sequence[Student], root: Path, split: str, device: torch.device
) -> list[Measured]:
    """Measure the students on the images in the class folders of ``root``, or of its split.

    Raises UserError for a class that a student does not have.
    """
    files, folders = _labelled_files(root, split)
    logits = zip(*logits_of_files(students, files, device), strict=True)
    return [
        measure(torch.cat(parts), torch.tensor(_numbers(folders, student)))
        for student, parts in zip(students, logits, strict=True)
    ]


def _numbers(folders: Sequence[str], student: Student) -> list[int]:
    """Return the student's class number of each image, by the name of its folder."""
    numbers = {name: number for number, name in enumerate(student.facts.class_names)}
    for name in dict.fromkeys(folders):
        if name not in numbers:
            raise unknown_name("class folder", name, numbers)
    return [numbers[name] for name in folders]


def _labelled_files(root: Path, split: str) -> tuple[list[Path], list[str]]:
    """Return the images below ``root``, and the name of the class folder that each is in."""
    files: list[Path] = []
    names: list[str] = []
    for folder in _folders(_split_folder(root, split)):
        inside = images_below(folder)
        files += inside
        names += [folder.name] * len(inside)
    if not files:
        raise UserError(f"the folder {root} has no class folders with images")
    return files, names


def _split_folder(root: Path, split: str) -> Path:
    """Return the folder of the split; ``root`` itself, if it has no folders of splits."""
    if not root.is_dir():
        raise UserError(f"no such image folder: {root}")
    known = [name for names in SPLIT_NAMES.values() for name in names]
    splits = {path.name.lower(): path for path in _folders(root) if path.name.lower() in known}
    if not splits:
        return root
    found = [splits[name] for name in SPLIT_NAMES[split] if name in splits]
    if not found:
        raise UserError(
            f"the image folder {root} has no {split}/, but {', '.join(splits)}; choose with --split"
        )
    return found[0]


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not is_stray(p))


def measure(logits: Tensor, labels: Tensor) -> Measured:
    """Return the accuracies and the cross-entropy of logits (N, classes) for labels (N,)."""
    top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices == labels[:, None]
    count = len(labels)
    return Measured(
        images=count,
        acc=100 * int(top[:, 0].sum()) / count,
        top5=100 * int(top.sum()) / count,
        ce=float(F.cross_entropy(logits, labels)),
    )
