"""What a streamed dataset means for the estimate, and for a node that gets only its list."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.catalogue import load_dataset
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.stream import Stream
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.check import dataset_request
from rkkd_cli.sweep.engines.ray.worker import check_images_here
from rkkd_cli.sweep.estimate import epoch_time, memory_of

FolderMaker = Callable[..., Path]
CPU = torch.device("cpu")


def arms_on(root: Path, *overrides: str) -> tuple[Arm, ...]:
    given = ("dataset.name=folder", f"dataset.root={root}", "dataset.image_size=16", *overrides)
    return load_experiment("rank_grad", [parse_override(one) for one in given]).resolved_arms


def test_a_stream_needs_no_more_memory_for_more_images(make_folder: FolderMaker) -> None:
    few, many = make_folder(classes=2, train=50), make_folder(classes=2, train=400)
    small, large = (memory_of(arms_on(root, "dataset.streaming=true")) for root in (few, many))
    assert small == large
    held = [memory_of(arms_on(root, "dataset.streaming=false")).shared for root in (few, many)]
    assert held[1] - held[0] == 2 * 700 * 3 * 16**2


def test_an_epoch_takes_at_least_as_long_as_its_decoding(make_folder: FolderMaker) -> None:
    root = make_folder(classes=2, train=300, size=96)
    by_one, by_hundred, held = (
        epoch_time(arms_on(root, *words), CPU)
        for words in (
            ("dataset.streaming=true", "decoders=1"),
            ("dataset.streaming=true", "decoders=100"),
            ("dataset.streaming=false",),
        )
    )
    assert held.decoding == 0
    assert 20 < by_one.decoding / by_hundred.decoding < 500  # 100, on a quiet machine
    assert by_one.epoch >= by_one.decoding > 0
    assert by_one.epoch >= by_one.teacher + by_one.arms


@pytest.fixture
def shipped(make_folder: FolderMaker, tmp_path: Path) -> Dataset:
    """A streamed dataset as it comes out at a node."""
    (arm, *_) = arms_on(make_folder(), "dataset.streaming=true", "decoders=2")
    dataset = load_dataset(dataset_request(arm.experiment), tmp_path)
    first = next(Stream(dataset, CPU, 4, seed=0).epoch(1))  # its decoders are at work
    assert dataset.fingerprint
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(next(Stream(copy, CPU, 4, seed=0).epoch(1)).images, first.images)
    return copy


def test_a_node_with_the_same_images_reads_them_from_its_own_disk(shipped: Dataset) -> None:
    check_images_here(shipped)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_node_with_other_images_or_none_refuses(shipped: Dataset, split: str) -> None:
    listed = {"train": shipped.train, "test": shipped.test}[split]
    root = listed.files.root  # type: ignore[union-attr]
    image = root / split / "class001" / "0.png"
    content = image.read_bytes()
    image.write_bytes(bytes(len(content)))
    with pytest.raises(RunError, match=rf"a node of the cluster has other images in {root}; a str"):
        check_images_here(shipped)
    image.unlink()
    with pytest.raises(RunError, match=r"cannot read the image .*0\.png: No such file.*same place"):
        check_images_here(shipped)
