"""Classes to train on and others to test on: which images they have, in which order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_folders import write_folder
from in_memory import pixels_of

from rkkd_cli.data.catalogue import DATASETS, DatasetInfo, DatasetRequest
from rkkd_cli.data.class_split import ClassSplit
from rkkd_cli.data.digits import load_digits
from rkkd_cli.data.images import Dataset, Split
from rkkd_cli.data.reading import inspect_dataset, load_dataset
from rkkd_cli.errors import UserError

HALVES = ClassSplit((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
DIGITS = DatasetRequest("digits", classes=HALVES)


def classes_of(split: Split) -> list[int]:
    return sorted({int(label) for label in split.labels})


def counts(found: Dataset | DatasetInfo) -> tuple[int, int, int]:
    if isinstance(found, DatasetInfo):
        return found.train_images, found.val_images, found.test_images
    return len(found.train), len(found.val or ()), len(found.test)


def test_the_counts_of_the_catalogue_are_those_of_the_digits() -> None:
    train, test, _ = load_digits()
    stated = DATASETS["digits"].counts
    assert stated is not None
    assert stated.train == tuple(np.bincount(train.labels).tolist())
    assert stated.test == tuple(np.bincount(test.labels).tolist())


@pytest.mark.parametrize(
    "settings", [{}, {"limit_train": 103, "limit_test": 57}, {"val_share": 0.13}]
)
def test_what_is_told_before_is_what_is_read(settings: dict[str, float], tmp_path: Path) -> None:
    for request in (DIGITS, replace(DIGITS, classes=None)):
        request = replace(request, **settings)  # type: ignore[arg-type]
        told, read = inspect_dataset(request), load_dataset(request, tmp_path)
        assert counts(told) == counts(read)
        assert told.num_classes == len(read.classes) == 10
        assert told.train_classes == len(classes_of(read.train))
        assert told.test_classes == len(classes_of(read.test))


def test_digits_have_no_split_of_their_own_so_each_half_has_all_of_its_images(
    tmp_path: Path,
) -> None:
    dataset = load_dataset(replace(DIGITS, val_share=0.2), tmp_path)
    assert counts(dataset) == (721, 180, 896)
    assert dataset.val is not None
    assert [classes_of(s) for s in (dataset.train, dataset.val, dataset.test)] == [
        [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9],
    ]  # fmt: skip
    whole = {
        image.tobytes()
        for split in load_digits()[:2]
        for image in pixels_of(split)[split.labels > 4]
    }
    assert {image.tobytes() for image in pixels_of(dataset.test)} == whole


def test_of_a_dataset_with_splits_each_half_has_the_images_of_its_split() -> None:
    info = inspect_dataset(DatasetRequest("cifar100", classes=ClassSplit((*range(50),), (60, 61))))
    assert (counts(info), info.train_classes, info.test_classes) == ((25_000, 0, 200), 50, 2)


def test_held_out_images_are_shuffled_for_good_and_the_seed_says_how(tmp_path: Path) -> None:
    first, again = (load_dataset(replace(DIGITS, val_share=0.2), tmp_path) for _ in range(2))
    other = load_dataset(replace(DIGITS, val_share=0.2, split_seed=1), tmp_path)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.train.fingerprint == other.train.fingerprint
    for ours, theirs in ((first.test, other.test), (first.val, other.val)):
        assert ours is not None
        assert theirs is not None
        assert ours.fingerprint != theirs.fingerprint
        images = [sorted(image.tobytes() for image in pixels_of(split)) for split in (ours, theirs)]
        assert images[0] == images[1]
    labels = first.test.labels[: len(first.test) // 40 * 40].reshape(-1, 40)
    assert min(len(np.unique(batch)) for batch in labels) >= 4


@pytest.mark.parametrize("streaming", [False, True])
def test_class_folders_alone_are_split_by_class(streaming: bool, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", classes=4, train=6, test=0, size=8) / "train"
    request = DatasetRequest(
        "folder", str(root), classes=ClassSplit((0, 3), (1, 2)), streaming=streaming,
        image_size=8, decoders=0,
    )  # fmt: skip
    dataset = load_dataset(request, tmp_path / "cache")
    assert counts(dataset) == counts(inspect_dataset(request)) == (12, 0, 12)
    assert (classes_of(dataset.train), classes_of(dataset.test)) == ([0, 3], [1, 2])
    assert dataset.classes == ("class000", "class001", "class002", "class003")
    assert dataset.test.labels.tolist() != sorted(dataset.test.labels.tolist())
    assert dataset.notes == ()


def test_a_folder_with_splits_may_have_other_classes_in_each(tmp_path: Path) -> None:
    for split, names in (("train", ("ant", "cat")), ("val", ("ant", "dog")), ("test", ("bee",))):
        for number, name in enumerate(names):
            made = write_folder(tmp_path / f"{split}{number}", classes=1, train=3, test=0, size=8)
            (tmp_path / "root" / split).mkdir(parents=True, exist_ok=True)
            (made / "train" / "class000").rename(tmp_path / "root" / split / name)
    root = str(tmp_path / "root")
    with pytest.raises(UserError, match=r"class 'bee' is in .*/test but not in"):
        inspect_dataset(DatasetRequest("folder", root))
    request = DatasetRequest("folder", root, classes=ClassSplit((0, 2), (1,)))
    dataset = load_dataset(request, tmp_path / "cache")
    assert dataset.classes == ("ant", "bee", "cat", "dog")
    assert counts(dataset) == counts(inspect_dataset(request)) == (6, 3, 3)
    assert dataset.val is not None
    assert classes_of(dataset.val) == [0]
    lacking = replace(request, classes=ClassSplit((0, 2), (1, 3)))
    with pytest.raises(UserError, match=r"test names class 3 \('dog'\).* no test images"):
        inspect_dataset(lacking)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"classes": ClassSplit((0,), (9, 10))}, "test names class 10, and .* 0 to 9"),
        ({"limit_train": 5}, "class 0 has one training image, .* or change dataset.limit_train"),
        ({"limit_test": 9}, "class 9 has one test image, .* or change dataset.limit_test"),
        ({"limit_train": 50, "val_share": 0.1}, "one validation image, .* dataset.val_share"),
        ({"limit_test": 4}, "dataset.limit_test = 4: the split has 896 images of 5 classes"),
    ],
)
def test_a_class_needs_two_images_on_its_side(
    settings: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    request = replace(DIGITS, **settings)  # type: ignore[arg-type]
    for look in (inspect_dataset, lambda asked: load_dataset(asked, tmp_path)):
        with pytest.raises(UserError, match=sentence):
            look(request)
