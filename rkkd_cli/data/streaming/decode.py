"""One image file to RGB pixels. Nothing in a file is executed, and nothing grows without bounds."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rkkd_cli.data.streaming.crops import centred
from rkkd_cli.errors import UserError

# Those of the suffixes that count as images. Others stay out: for EPS Pillow starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")


@contextmanager
def refusing_bombs() -> Iterator[None]:
    """Let an image of more than Pillow's limit (89 megapixels) be an error, not a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_rgb(path: Path, image_size: int | None) -> NDArray[np.uint8]:
    """Decode one image, (H, W, 3); with ``image_size``, shorter side scaled and centre cropped.

    Raises UserError naming an image that cannot be decoded.
    """
    image = read_image(path, lambda image: centred(image, image_size) if image_size else image)
    return np.asarray(image, dtype=np.uint8)


def read_image(path: Path, cut: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Decode one image to RGB and return what ``cut`` makes of it.

    Raises UserError naming an image that cannot be decoded.
    """
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"cannot decode the image {path}: it is no file")
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = _to_rgb(file)
        return cut(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot decode the image {path}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"image {path} has too many pixels to be decoded safely") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as RGB; transparency is dropped, 16-bit grey scaled to 8 bits."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of an image file. Raises UserError for one that cannot be read."""
    if not path.is_file():
        raise UserError(f"cannot read the image {path}: it is no file")
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None
