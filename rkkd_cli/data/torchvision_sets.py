"""Datasets that torchvision downloads, with its checksums."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from rkkd_cli.data.images import LabelledImages
from rkkd_cli.errors import RunError, UserError

Splits = tuple[LabelledImages, LabelledImages, tuple[str, ...]]

READERS: dict[str, Callable[[Path, bool, bool], Any]] = {
    "cifar10": lambda root, train, fetch: datasets.CIFAR10(root, train=train, download=fetch),
    "cifar100": lambda root, train, fetch: datasets.CIFAR100(root, train=train, download=fetch),
    "fashion_mnist": lambda root, train, fetch: datasets.FashionMNIST(
        root, train=train, download=fetch
    ),
    "svhn": lambda root, train, fetch: datasets.SVHN(
        root, split="train" if train else "test", download=fetch
    ),
}


def load_torchvision(name: str, root: Path) -> Splits:
    """Return train, test and class names; what is not yet under ``root`` is downloaded.

    Raises:
        UserError: ``root`` cannot be written.
        RunError: the download failed.

    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use the data folder {root}: {error.strerror}") from None
    train, test = _open(name, root, train=True), _open(name, root, train=False)
    classes = tuple(str(c) for c in getattr(train, "classes", range(int(max(_labels(train))) + 1)))
    return _arrays(train), _arrays(test), classes


def is_present(name: str, root: Path) -> bool:
    """Tell whether the dataset lies under ``root``, without fetching anything."""
    try:
        READERS[name](root, True, False)
        READERS[name](root, False, False)
    except Exception:  # a damaged file makes the readers raise nearly anything
        return False
    return True


def _open(name: str, root: Path, train: bool) -> Any:
    with suppress(Exception):  # not there, or damaged: fetch it
        return READERS[name](root, train, False)
    try:
        with redirect_stdout(sys.stderr):  # torchvision prints its mirrors' failures
            return READERS[name](root, train, True)
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


def _labels(dataset: Any) -> Any:
    return dataset.labels if hasattr(dataset, "labels") else dataset.targets


def _arrays(dataset: Any) -> LabelledImages:
    pixels = np.asarray(dataset.data, dtype=np.uint8)
    if pixels.ndim == 3:  # grey images (N, H, W)
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:  # (N, H, W, 3); SVHN comes as (N, 3, H, W)
        pixels = pixels.transpose(0, 3, 1, 2)
    labels = np.asarray(_labels(dataset), dtype=np.int64)
    return LabelledImages(np.ascontiguousarray(pixels), labels)
