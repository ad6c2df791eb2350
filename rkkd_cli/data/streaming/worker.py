"""A process that decodes images: ``python -m rkkd_cli.data.streaming.worker``.

Each line on stdin is a JSON list of tasks. For each task, stdout gets one status byte, then the
pixels, or a line with the reason of the failure. The process keeps nothing between two images,
imports no torch (so it starts in a fraction of a second), and ends when stdin is closed.
"""

import json
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.decode import read_image
from rkkd_cli.errors import UserError

DECODED, FAILED = b"+", b"-"
STDOUT, STDERR = 1, 2


class DecodeTask(NamedTuple):
    """An image to decode and crop; a random crop is drawn from ``seed``."""

    path: str
    crop: Crop
    seed: int


def json_line(value: object) -> bytes:
    """Return the value as a line of JSON."""
    return json.dumps(value).encode() + b"\n"


def decode(task: DecodeTask) -> bytes:
    """Return size × size × 3 bytes. Raises UserError naming an image that cannot be decoded."""
    image = read_image(Path(task.path), lambda image: task.crop(image, task.seed))
    return image.tobytes()


def respond(task: DecodeTask) -> bytes:
    """Return the response to one task: pixels, or the reason of the failure."""
    try:
        return DECODED + decode(task)
    except UserError as error:
        return FAILED + json_line(str(error))
    except Exception as error:  # a decoder may raise anything on hostile bytes
        return FAILED + json_line(f"cannot decode the image {task.path}: {error!r}")


def main() -> None:
    """Decode until stdin is closed. Ignores signals: the parent process handles them."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    requests, responses = sys.stdin.buffer, os.fdopen(os.dup(STDOUT), "wb", 0)
    os.dup2(STDERR, STDOUT)  # what a library prints is no response
    with suppress(OSError):  # the parent process has ended
        while line := requests.readline():
            for path, crop, seed in json.loads(line):
                unsent = memoryview(respond(DecodeTask(path, Crop(*crop), seed)))
                while unsent:
                    unsent = unsent[responses.write(unsent) :]


if __name__ == "__main__":
    main()
