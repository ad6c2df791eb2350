"""Decodes an image file to RGB pixels. Runs nothing in the file, and refuses giant images."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rkkd_cli.data.streaming.crops import centre_crop
from rkkd_cli.errors import UserError

# The formats of the image suffixes, and no others: for EPS, Pillow would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")


@contextmanager
def reject_decompression_bombs() -> Iterator[None]:
    """Raise an error, not a warning, for images above Pillow's limit of 89 megapixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_rgb(path: Path, image_size: int | None) -> NDArray[np.uint8]:
    """Decode one image to (H, W, 3); with ``image_size``, resize and crop the centre.

    Raises UserError naming an image that cannot be decoded.
    """
    image = read_image(path, lambda image: centre_crop(image, image_size) if image_size else image)
    return np.asarray(image, dtype=np.uint8)


def read_image(path: Path, transform: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Decode one image to RGB and apply ``transform``.

    Raises UserError naming an image that cannot be decoded.
    """
    if not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"cannot decode the image {path}: it is no file")
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = _to_rgb(file)
        return transform(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot decode the image {path}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"image {path} has too many pixels to be decoded safely") from None


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


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of an image file. Raises UserError if it cannot be read."""
    if not path.is_file():
        raise UserError(f"cannot read the image {path}: it is no file")
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
