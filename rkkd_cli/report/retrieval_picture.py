"""What a retrieval sheet shows: the queries, and what each arm finds for them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.errors import printable
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.style import MAX_DISTINCT_ARMS


class FoundImages(NamedTuple):
    """The neighbours of a query in the embedding of an arm, and which are of its class."""

    label: str
    images: NDArray[np.uint8]
    right: NDArray[np.bool_]


class Query(NamedTuple):
    """A query, its class, and what each arm finds."""

    image: NDArray[np.uint8]
    name: str
    found: list[FoundImages]


class RetrievalPicture(NamedTuple):
    """What a sheet shows, and its title."""

    title: str
    queries: Sequence[Query]

    @classmethod
    def of(cls, sheets: Sequence[tuple[str, RetrievalSheet]]) -> "RetrievalPicture":
        """Return what labelled sheets have in common: the queries. Of many arms the first ones."""
        queries: dict[tuple[str, bytes], Query] = {}
        for label, sheet in sheets[:MAX_DISTINCT_ARMS]:
            for images, classes, right in zip(
                sheet.images, sheet.classes, sheet.right, strict=True
            ):
                name, image = str(classes[0]), images[0]
                new = Query(image, printable(name), [])
                query = queries.setdefault((name, image.tobytes()), new)
                query.found.append(FoundImages(printable(label), images[1:], right))
        return cls(_title([sheet for _, sheet in sheets]), [*queries.values()])


def read_sheets(run: RunDirectory, arms: Sequence[str]) -> list[RetrievalSheet]:
    """Return the sheets that a run has of its arms. Raises UserError for a damaged one."""
    paths = [run.retrieval(arm) for arm in arms]
    return [RetrievalSheet.read(path) for path in paths if path.is_file()]


def _title(sheets: Sequence[RetrievalSheet]) -> str:
    epochs, seeds = {sheet.epoch for sheet in sheets}, {sheet.seed for sheet in sheets}
    after = f"after epoch {epochs.pop()}" if len(epochs) == 1 else "after each arm's last epoch"
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""
    drawn = f" (the first {MAX_DISTINCT_ARMS} of {len(sheets)} arms)"
    more = drawn if len(sheets) > MAX_DISTINCT_ARMS else ""
    return f"Nearest test images {after}{seed}, the nearest first{more}"
