"""Applies a trained student to image files, as it was applied to the test images of its run."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rkkd_cli.data.folder_scan import IMAGE_SUFFIXES, STRAY_FOLDERS
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.decode import read_image, reject_decompression_bombs
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.students.student import Student, StudentFacts, check_classifiers

BATCH = 64
GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R 601, as Pillow's mode L


class Prediction(NamedTuple):
    """The probability of each class, (classes,), for one image."""

    path: Path
    probabilities: Tensor

    def top(self, count: int) -> list[tuple[int, float]]:
        """Return the numbers of the most probable classes and their probabilities."""
        values, indices = self.probabilities.topk(min(count, len(self.probabilities)))
        return list(zip(indices.tolist(), values.tolist(), strict=True))


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files; for a folder, all images below it. Raises UserError if there are none."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = images_below(path)
        if not inside:
            raise UserError(f"the folder {path} has no images ({' '.join(IMAGE_SUFFIXES)})")
        files += inside
    return files


def images_below(folder: Path) -> list[Path]:
    """Return all images below a folder, sorted."""
    below = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in below if not _is_below_stray(p.relative_to(folder)))


def _is_below_stray(path: Path) -> bool:
    return any(map(is_stray, (path, *path.parents)))


def is_stray(path: Path) -> bool:
    """Tell whether a name is hidden, or that of a folder that a program has left behind."""
    return path.name.startswith(".") or path.name.lower() in STRAY_FOLDERS


def predict(student: Student, files: Sequence[Path], device: torch.device) -> Iterator[Prediction]:
    """Yield the probabilities for each image. Raises UserError for one that cannot be decoded."""
    rows = (row for (logits,) in logits_of_files([student], files, device) for row in logits)
    for path, row in zip(files, rows, strict=True):
        yield Prediction(path, row.softmax(dim=0))


def logits_of_files(
    students: Sequence[Student], files: Sequence[Path], device: torch.device
) -> Iterator[list[Tensor]]:
    """Yield for each batch of image files the logits (B, classes) of every student."""
    check_classifiers(students)
    pairs = [(student.module.to(device), student.facts.images) for student in students]
    for start in range(0, len(files), BATCH):
        batch, images, logits = files[start : start + BATCH], dict[StudentFacts, Tensor](), []
        for module, facts in pairs:
            if facts not in images:
                pixels = normalise(read_pixels(batch, facts), facts).to(device)
                images[facts] = facts.input(pixels)
            with torch.no_grad():
                logits.append(module(images[facts]).float().cpu())
        yield logits


def normalise(pixels: Tensor, facts: StudentFacts) -> Tensor:
    """Return (pixels / 255 − mean) / std, float32."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (facts.mean, facts.std))
    return (pixels.float() / 255 - mean) / std


def read_pixels(files: Sequence[Path], facts: StudentFacts) -> Tensor:
    """Return the images (N, channels, H, W) uint8, made to fit as the run's test images were.

    Raises UserError for an image that cannot be decoded, or not be made to fit.
    """
    if facts.channels not in (1, 3):
        raise UserError(
            f"the student takes images of {facts.channels} channels, and image files have 1 or 3"
        )

    def read(path: Path) -> NDArray[np.uint8]:
        (pixels,) = read_image(path, [lambda image: _fit(image, path, facts)])
        return pixels

    with reject_decompression_bombs(), ThreadPoolExecutor(os.cpu_count()) as pool:
        rgb = np.stack(list(pool.map(read, files)))
    if facts.channels == 1:
        rgb = np.rint(rgb @ np.array(GREY)).astype(np.uint8)[..., None]
    return torch.from_numpy(rgb.transpose(0, 3, 1, 2).copy())


def _fit(image: Image.Image, path: Path, facts: StudentFacts) -> Image.Image:
    height, width = facts.input.images.size
    if image.size == (width, height) and facts.fit != "held_out":
        return image
    if height != width:
        raise UserError(
            f"image {path} is {image.width}×{image.height}, and the student was trained on "
            f"{width}×{height}; resize it first"
        )
    return Crop(height, facts.fit).cut(image)
