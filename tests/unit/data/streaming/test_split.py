"""Streamed image folders: the stream's contract, subsets, fingerprints, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_memory import pixels_of
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rkkd_cli.data.augmentation import Augmentation
from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.reading import (
    MAX_RESIDENT_BYTES,
    STREAMED_MEAN,
    STREAMED_STD,
    inspect_dataset,
    load_dataset,
)
from rkkd_cli.data.stream import Batch, DeviceImages, Stream, batch_slices
from rkkd_cli.data.streaming.loader import ImageError
from rkkd_cli.data.streaming.split import SAMPLED_FILES, StreamedSplit
from rkkd_cli.errors import UserError

CPU = torch.device("cpu")
FolderMaker = Callable[..., Path]


def load(root: Path, **settings: Any) -> Dataset:
    """Return the streamed dataset, decoded by this process unless it is said otherwise."""
    stated = {"streaming": True, "image_size": 16, "decoders": 0} | settings
    return load_dataset(DatasetRequest("folder", str(root), **stated), root / "no-cache")


def batches(dataset: Dataset, skip: int = 0, epoch: int = 1, strong: bool = False) -> list[Batch]:
    return list(Stream(dataset, CPU, 7, seed=3, strong=strong).epoch(epoch, skip))


def same(ones: list[Batch], others: list[Batch]) -> bool:
    pairs = zip(tree_leaves(ones), tree_leaves(others), strict=True)
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in pairs
    )


@pytest.fixture
def root(make_folder: FolderMaker) -> Path:
    """Thirty training and nine test images of three classes, 24×24."""
    return make_folder(classes=3, train=10, test=3, size=24)


@pytest.mark.parametrize("crop", ["resized", "padded", "window"])
@pytest.mark.parametrize("decoders", [1, 3])
def test_the_batches_are_the_same_whoever_decodes_them(
    root: Path, crop: str, decoders: int
) -> None:
    one, many = load(root, crop=crop), load(root, crop=crop, decoders=decoders)
    assert same(batches(one, strong=True), batches(many, strong=True))
    held_out = [list(DeviceImages(d.test, d, CPU).in_order(4)) for d in (one, many)]
    assert same(*held_out)


@pytest.mark.parametrize("crop", ["resized", "padded", "window"])
@pytest.mark.parametrize("decoders", [0, 2])
def test_what_is_skipped_changes_nothing_about_the_rest(
    root: Path, crop: str, decoders: int
) -> None:
    dataset = load(root, crop=crop, decoders=decoders)
    whole = batches(dataset, strong=True)
    assert len(whole) == 5
    for skip in (1, 4, 5):
        assert same(whole[skip:], batches(dataset, skip, strong=True))


def test_epochs_seeds_and_images_have_draws_of_their_own(root: Path) -> None:
    dataset = load(root)
    for path in root.rglob("*.png"):  # all alike: what differs is drawn
        path.write_bytes((root / "train" / "class000" / "0.png").read_bytes())
    shown = [image for epoch in (1, 2) for b in batches(dataset, epoch=epoch) for image in b.images]
    shown += [image for batch in Stream(dataset, CPU, 7, seed=4).epoch(1) for image in batch.images]
    assert len({image.numpy().tobytes() for image in shown}) == len(shown) == 90


def test_every_image_comes_once_an_epoch_with_its_label_and_index(root: Path) -> None:
    parts = batches(load(root))
    indices = torch.cat([part.indices for part in parts])
    assert sorted(indices.tolist()) == list(range(30))
    assert torch.equal(torch.cat([part.labels for part in parts]), indices // 10)
    assert [len(part.labels) for part in parts] == [7, 7, 7, 7, 2]


def test_the_strong_view_is_another_crop_and_disturbs_nothing(root: Path) -> None:
    dataset = load(root)
    plain, both = batches(dataset), batches(dataset, strong=True)
    assert same(plain, [batch._replace(strong=None) for batch in both])
    views = [(batch.images, batch.strong) for batch in both]
    assert not any(other is None or torch.equal(one, other) for one, other in views)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flip": False, "crop_padding": 0},
        {"crop_padding": 5},
        {"resize": "pad"},
        {"augment": Augmentation("trivial", random_erase=0.5, mixup_alpha=0.8, cutmix_alpha=1.0)},
    ],
)
def test_padded_crops_are_bit_for_bit_those_of_images_in_memory(
    root: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Where the pixels come from changes none of them."""
    stated: dict[str, Any] = {
        "image_size": 12,
        "mean": STREAMED_MEAN,
        "std": STREAMED_STD,
    } | settings
    request = DatasetRequest("folder", str(root), streaming=False, **stated)
    resident, streamed = load_dataset(request, tmp_path), load(root, crop="padded", **stated)
    assert not resident.is_streamed
    assert streamed.is_streamed
    assert same(batches(resident, strong=True), batches(streamed, strong=True))
    held_out = [list(DeviceImages(d.test, d, CPU).in_order(4)) for d in (resident, streamed)]
    assert same(*held_out)
    some = torch.tensor([4, 0, 4, 1])
    (chosen,), (decoded,) = (
        DeviceImages(d.test, d, CPU).pixels.in_order([some]) for d in (resident, streamed)
    )
    assert torch.equal(chosen, decoded)
    assert torch.equal(chosen, torch.from_numpy(pixels_of(resident.test))[some])
    assert streamed.augmentation == resident.augmentation


def test_held_out_images_are_scaled_and_their_middle_cut_out(root: Path) -> None:
    dataset = load(root, image_size=14, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    (batch,) = DeviceImages(dataset.test, dataset, CPU).in_order(100)
    for image, path in zip(batch.images, sorted((root / "test").rglob("*.png")), strict=True):
        with Image.open(path) as file:
            scaled = file.resize((16, 16), Image.Resampling.BILINEAR)  # 14 · 256 / 224
        expected = np.asarray(scaled)[1:15, 1:15].transpose(2, 0, 1)
        assert np.array_equal(image.round().numpy(), expected)


def test_the_global_generator_is_neither_used_nor_moved(root: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(load(root, decoders=2), strong=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "settings",
    [
        {"limit_train": 12, "limit_test": 6},
        {"val_share": 0.3},
        {"limit_train": 20, "val_share": 0.2},
    ],
)
def test_subsets_are_those_of_the_images_in_memory(
    root: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    request = DatasetRequest("folder", str(root), streaming=False, image_size=16, **settings)
    resident, streamed = load_dataset(request, tmp_path), load(root, crop="padded", **settings)
    for one, other in ((resident.train, streamed.train), (resident.val, streamed.val),
                       (resident.test, streamed.test)):  # fmt: skip
        if one is None or other is None:
            assert one is other
            continue
        assert one.labels.tolist() == other.labels.tolist()
        data = DeviceImages(other, streamed, CPU)
        pixels = torch.cat(list(data.pixels.in_order(batch_slices(len(data), 5))))
        assert np.array_equal(pixels.numpy(), pixels_of(one))


def test_a_folder_is_streamed_where_it_is_told_or_too_large_for_memory(root: Path) -> None:
    def streamed(**settings: Any) -> bool:
        return inspect_dataset(DatasetRequest("folder", str(root), **settings)).streamed

    assert not streamed()
    assert not streamed(streaming=False, image_size=4096)
    assert streamed(streaming=True)
    assert streamed(crop="resized")
    largest = int((MAX_RESIDENT_BYTES / 39 / 3) ** 0.5)  # of 39 images
    assert not streamed(image_size=largest)
    assert streamed(image_size=largest + 1)


def test_a_stream_has_the_usual_size_normalisation_and_crops(root: Path) -> None:
    dataset = load(root, image_size=None)
    assert (dataset.image_size, dataset.in_channels, dataset.crop) == ((224, 224), 3, "resized")
    assert (dataset.mean, dataset.std) == (STREAMED_MEAN, STREAMED_STD)
    assert dataset.augmentation == ("resized", True)
    assert load(root, crop_padding=2).augmentation == (2, True)
    assert load(root, resize="squash").augmentation == (4, True)
    assert not (root / "no-cache").exists()


def test_what_is_no_folder_is_not_streamed() -> None:
    words = "dataset.streaming = true is for image folders; digits is held"
    with pytest.raises(UserError, match=words):
        inspect_dataset(DatasetRequest("digits", streaming=True))
    assert not inspect_dataset(DatasetRequest("digits", crop="resized")).streamed


def fingerprints(root: Path, **settings: Any) -> tuple[str, str]:
    dataset = load(root, **settings)
    return dataset.train.fingerprint, dataset.fingerprint


def test_the_fingerprint_knows_a_moved_tree_again_and_tells_other_files(
    root: Path, tmp_path: Path
) -> None:
    seen = [fingerprints(root)]
    moved = root.rename(tmp_path / "elsewhere")
    assert fingerprints(moved) == seen[0]
    for path in moved.rglob("*.png"):
        path.touch()
    assert fingerprints(moved) == seen[0]
    first = moved / "train" / "class000" / "0.png"
    first.write_bytes(first.read_bytes() + b"longer")
    seen.append(fingerprints(moved))
    first.write_bytes(first.read_bytes()[:-6] + b"LONGER")  # all of so few contents are covered
    seen.append(fingerprints(moved))
    first.rename(first.with_name("x.png"))
    seen.append(fingerprints(moved))
    (moved / "train" / "class000" / "x.png").rename(moved / "train" / "class001" / "x.png")
    seen.append(fingerprints(moved))
    (moved / "train" / "class001" / "x.png").unlink()
    seen += [fingerprints(moved), fingerprints(moved, image_size=17)]
    seen.append(fingerprints(moved, crop="padded"))
    seen.append(fingerprints(moved, crop="padded", resize="pad"))
    assert len({train for train, _ in seen}) == len({whole for _, whole in seen}) == len(seen)


def test_of_many_files_every_size_but_only_a_sample_of_contents_is_told(
    make_folder: FolderMaker,
) -> None:
    root = make_folder(classes=1, train=SAMPLED_FILES + 40, test=1, size=4)
    before = load(root).train
    assert isinstance(before, StreamedSplit)
    kinds = []
    for index in range(len(before)):
        path = Path(before.path(index))
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        kinds.append(before.compute_fingerprint() == before.fingerprint)
        path.write_bytes(bytes(len(content) + 1))
        assert before.compute_fingerprint() != before.fingerprint
        path.write_bytes(content)
        if index > 30:
            break
    assert {*kinds} == {True, False}


def test_a_file_that_has_gone_is_named_and_one_that_breaks_is_named_in_its_turn(
    root: Path,
) -> None:
    dataset = load(root, decoders=2)
    order = torch.cat([batch.indices for batch in batches(dataset)])
    assert isinstance(dataset.train, StreamedSplit)
    broken = dataset.train.path(int(order[20]))
    Path(broken).write_bytes(b"no image")
    epoch = Stream(dataset, CPU, 7, seed=3).epoch(1)
    assert [len(next(epoch).labels) for _ in range(2)] == [7, 7]
    with pytest.raises(ImageError, match=f"cannot decode the image {broken}"):
        next(epoch)
    Path(broken).unlink()
    with pytest.raises(UserError, match=rf"cannot read the image {broken}: No such file"):
        dataset.train.compute_fingerprint()
