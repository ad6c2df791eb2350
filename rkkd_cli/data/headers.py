"""The sizes of an image folder's files, from their headers: nothing is decoded."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rkkd_cli.data.folder_scan import Tree
from rkkd_cli.data.streaming.decode import Header, read_header
from rkkd_cli.errors import UserError

MAX_HEADERS = 5000  # of a folder; of a larger one, files at equal distances are read
MAX_NAMED = 10  # files that a sentence names


class Headers(NamedTuple):
    """What the headers say: how many files have each (width, height), and which say nothing.

    ``grey``: how many of the files that were read are grey.
    """

    images: int
    sizes: Counter[tuple[int, int]]
    unreadable: tuple[str, ...]
    grey: int = 0

    @property
    def typical_side(self) -> int:
        """The median of the images' shorter sides, in pixels."""
        sides = sorted(min(size) for size in self.sizes.elements())
        return sides[len(sides) // 2]

    def sentences(self) -> list[str]:
        """Return the sizes, and which files cannot be read."""
        count = f"{self.sizes.total():,}"
        if self.sizes.total() < self.images:
            count = f"{count} of {self.images:,}"
        sentences = [f"{count} image headers read: {self._sizes_text()}"] if self.sizes else []
        if self.unreadable:
            named = "; ".join(self.unreadable[:MAX_NAMED])
            more = len(self.unreadable) - MAX_NAMED
            named += f"; and {more} more" if more > 0 else ""
            sentences.append(f"{len(self.unreadable):,} cannot be read: {named}")
        return sentences

    def misfits(self, height: int, width: int) -> list[str]:
        """Return how many images are not of the size that they are made, as sentences."""
        size = f"{width}×{height}"
        other = sum(count for fits, count in self.sizes.items() if fits != (width, height))
        smaller = sum(n for (w, h), n in self.sizes.items() if w < width or h < height)
        sentences = [f"{other:,} of them are made {size}"] if other else []
        return [*sentences, *([f"{smaller:,} are smaller than {size}"] if smaller else [])]

    def _sizes_text(self) -> str:
        ((width, height), most), *others = self.sizes.most_common()
        if not others:
            return f"all {width}×{height}"
        low, high = min(self.sizes, key=_area), max(self.sizes, key=_area)
        return (
            f"{len(self.sizes)} sizes from {low[0]}×{low[1]} to {high[0]}×{high[1]}, most often "
            f"{width}×{height} ({most:,})"
        )


def read_headers(tree: Tree) -> Headers:
    """Read the headers of the images of all splits, or of some at equal distances."""
    # An image may be in two splits: one folder of all images is trained on and searched.
    paths = [*dict.fromkeys(chain.from_iterable(split.paths() for split in tree.splits))]
    step = -(-len(paths) // MAX_HEADERS)
    chosen = paths[::step]
    with ThreadPoolExecutor() as pool:
        read = [*pool.map(_header_or_problem, chosen)]
    found = [header for header in read if not isinstance(header, str)]
    unreadable = tuple(problem for problem in read if isinstance(problem, str))
    grey = sum(header.is_grey for header in found)
    return Headers(len(paths), Counter(header.size for header in found), unreadable, grey)


def _header_or_problem(path: Path) -> Header | str:
    try:
        return read_header(path)
    except UserError as error:
        return str(error)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
