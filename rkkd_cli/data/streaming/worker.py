"""A process that decodes images for another one: ``python -m rkkd_cli.data.streaming.worker``.

On stdin come lines with lists of orders in JSON, on stdout go the pixels of each image after a byte
that says that it could be decoded, or after another byte a line with the reason. It holds nothing
between two images, imports no torch (so that it starts in a fraction of a second), and ends with
its stdin.
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

from rkkd_cli.data.streaming.crops import Cut
from rkkd_cli.data.streaming.decode import read_image
from rkkd_cli.errors import UserError

GOOD, BAD = b"+", b"-"
STDOUT, STDERR = 1, 2


class Order(NamedTuple):
    """An image to be decoded, and the seed of what is drawn for it."""

    path: str
    cut: Cut
    seed: int


def line_of(told: object) -> bytes:
    """Return a line that the other end reads."""
    return json.dumps(told).encode() + b"\n"


def decode(order: Order) -> bytes:
    """Return size × size × 3 bytes. Raises UserError naming an image that cannot be decoded."""
    image = read_image(Path(order.path), lambda image: order.cut(image, order.seed))
    return image.tobytes()


def answer(order: Order) -> bytes:
    """Return the answer to one order."""
    try:
        return GOOD + decode(order)
    except UserError as error:
        return _refusal(str(error))
    except Exception as error:  # a decoder may raise anything on hostile bytes
        return _refusal(f"cannot decode the image {order.path}: {error!r}")


def _refusal(reason: str) -> bytes:
    return BAD + line_of(reason)


def main() -> None:
    """Decode until stdin ends. Signals are for the process that gives the orders."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(STDOUT), "wb", 0)
    os.dup2(STDERR, STDOUT)  # whatever a library prints is no answer
    with suppress(OSError):  # the other end has gone
        while line := orders.readline():
            for path, cut, seed in json.loads(line):
                rest = memoryview(answer(Order(path, Cut(*cut), seed)))
                while rest:
                    rest = rest[answers.write(rest) :]


if __name__ == "__main__":
    main()
