"""Datasets that torchvision downloads and verifies by checksum."""

import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from rkkd_cli.data.images import LabelledImages, Splits
from rkkd_cli.errors import RunError, UserError

READERS = {
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
    "fashion_mnist": datasets.FashionMNIST,
    "svhn": datasets.SVHN,
}


def load_torchvision(name: str, root: Path) -> Splits:
    """Return train, test and class names; downloads the files that are missing under ``root``.

    Raises:
        UserError: ``root`` cannot be written.
        RunError: the download failed.

    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use the data folder {root}: {error.strerror}") from None
    train, test = (_open_or_download(name, root, train) for train in (True, False))
    classes = getattr(train, "classes", range(int(max(_labels_of(train))) + 1))
    return _to_arrays(train), _to_arrays(test), tuple(map(str, classes))


def is_present(name: str, root: Path) -> bool:
    """Return whether the dataset lies under ``root``. Downloads nothing."""
    try:
        for train in (True, False):
            _open(name, root, train, download=False)
    except Exception:  # a damaged file makes the readers raise nearly anything
        return False
    return True


def _open(name: str, root: Path, train: bool, download: bool) -> Any:
    split = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    return READERS[name](root, **split, download=download)


def _open_or_download(name: str, root: Path, train: bool) -> Any:
    with suppress(Exception):  # missing or damaged: download it
        return _open(name, root, train, download=False)
    try:
        with redirect_stdout(sys.stderr):  # torchvision prints its mirrors' failures
            return _open(name, root, train, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(
            f"could not download {name} into {root} ({reason}); check the connection, or put the "
            "files there by hand"
        ) from None
    except Exception as error:
        raise RunError(
            f"{name} in {root} is damaged ({error}); delete it, and it is downloaded again"
        ) from None


def _labels_of(dataset: Any) -> Any:
    return dataset.labels if hasattr(dataset, "labels") else dataset.targets


def _to_arrays(dataset: Any) -> LabelledImages:
    pixels = np.asarray(dataset.data, dtype=np.uint8)
    if pixels.ndim == 3:  # grey images (N, H, W)
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:  # (N, H, W, 3); SVHN comes as (N, 3, H, W)
        pixels = pixels.transpose(0, 3, 1, 2)
    labels = np.asarray(_labels_of(dataset), dtype=np.int64)
    return LabelledImages(np.ascontiguousarray(pixels), labels)
