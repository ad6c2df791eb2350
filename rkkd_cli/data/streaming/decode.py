"""Decodes an image file to RGB pixels. Runs nothing in the file, and refuses giant images."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rkkd_cli.data.streaming.crops import Crop, Fit
from rkkd_cli.errors import UserError

# The formats of the image suffixes, and no others: for EPS, Pillow would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")

# Pillow's modes of one channel: two levels, 8 bits, 16 and 32 bits, floating point.
GREY_MODES = ("1", "L", "I", "F")

MAX_FILE_BYTES = 2**30

Transform = Callable[[Image.Image], Image.Image | NDArray[np.uint8]]


@contextmanager
def reject_decompression_bombs() -> Iterator[None]:
    """Raise an error, not a warning, for images above Pillow's limit of 89 megapixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_rgb(path: Path, image_size: int | None, resize: Fit = "crop") -> NDArray[np.uint8]:
    """Decode one image to (H, W, 3); with ``image_size``, make it fit as ``resize`` says.

    Raises UserError naming an image that cannot be decoded.
    """
    crop: Transform = Crop(image_size, resize).cut if image_size else np.asarray
    (pixels,) = read_image(path, [crop])
    return pixels


def read_image(path: Path, transforms: Iterable[Transform]) -> list[NDArray[np.uint8]]:
    """Decode one image to RGB once, and return what each transform makes of it, (H, W, 3).

    Raises UserError naming an image that cannot be decoded.
    """
    _check_is_image_file(path)
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = _to_rgb(file)
        return [np.asarray(transform(image)) for transform in transforms]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"image {path} has too many pixels to be decoded safely") from None
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise UserError(f"cannot decode the image {path}: {error}") from None


class Header(NamedTuple):
    """What an image's header says: width and height, those of its pixels, and grey or colour."""

    size: tuple[int, int]
    is_grey: bool


def read_size(path: Path) -> tuple[int, int]:
    """Return the width and height in an image's header; see :func:`read_header`."""
    return read_header(path).size


def read_header(path: Path) -> Header:
    """Return what an image's header says. Raises UserError naming a file that cannot be read."""
    _check_is_image_file(path)
    try:
        with reject_decompression_bombs(), Image.open(path, formats=FORMATS) as file:
            return Header(file.size, file.mode.startswith(GREY_MODES))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"image {path} has too many pixels to be decoded safely") from None
    except Exception as error:  # a reader may raise anything on hostile bytes
        raise UserError(f"cannot read the image {path}: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert the image to RGB: drop transparency, scale 16-bit grey to 8 bits."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_is_image_file(path: Path) -> None:
    """Raise UserError for what is no file (a pipe would be waited for), or is a giant."""
    try:
        if not path.is_file():
            raise UserError(f"cannot read the image {path}: it is no file")
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"the image {path} has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read"
        )


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of an image file. Raises UserError if it cannot be read."""
    _check_is_image_file(path)
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
