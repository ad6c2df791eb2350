"""One image file to RGB pixels. Nothing in a file is executed, and nothing grows without bounds."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

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
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"cannot decode the image {path}: it is no file")
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = _to_rgb(file)
        return np.asarray(_resized(image, image_size) if image_size else image, dtype=np.uint8)
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


def _resized(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))
