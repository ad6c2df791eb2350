"""How long an epoch's images take to be decoded, measured on a few of them."""

import time
from collections.abc import Sequence

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.detection.splits import FileSplit
from rkkd_cli.data.retrieval_sets import is_packed
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.loader import DecodeTask, decode
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.datasets import load

DECODED_IMAGES = 16


def decoding_seconds(experiment: Experiment, info: DatasetInfo, images: int) -> float:
    """Return the seconds in which the decoders read so many images of a streamed dataset."""
    if is_packed(experiment.dataset.name, experiment.dataset.root):
        return 0.0  # nothing is unpacked for an estimate
    train = load(experiment, cache_directory()).train
    assert isinstance(train, StreamedSplit | FileSplit)
    indices = range(0, len(train), -(-len(train) // DECODED_IMAGES))
    _read(train, indices[:1], info)  # loads the decoder of this format
    started = time.perf_counter()
    _read(train, indices, info)
    seconds = (time.perf_counter() - started) / len(indices)
    return seconds * images / max(1, train.loader.workers)


def _read(split: StreamedSplit | FileSplit, indices: Sequence[int], info: DatasetInfo) -> None:
    """Decode images of the split."""
    if isinstance(split, FileSplit):
        for index in indices:
            split.read(index)
        return
    crop = Crop(info.size[0], "random")
    decode([DecodeTask(split.path(index), crop, (index,)) for index in indices])
