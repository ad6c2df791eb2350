"""CUB-200-2011, Cars196 and Stanford Online Products, in tiny archives of the official layout."""

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import StanfordCars

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.class_split import ClassSplit
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.reading import inspect_dataset, load_dataset, needs_download
from rkkd_cli.data.retrieval_sets import RETRIEVAL_SETS, is_packed
from rkkd_cli.data.stream import Stream
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.errors import UserError

ARCHIVES = {"cub200": "CUB_200_2011.tgz", "cars196": "car_ims.tgz",
            "sop": "Stanford_Online_Products.zip"}  # fmt: skip
CLASSES = {"cub200": (100, 100), "cars196": (98, 98), "sop": (3, 2)}
NAMES = list(ARCHIVES)


def save(path: Path, number: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (9 + number % 5, 12 - number % 4)
    Image.new(mode, size, number % 256 if mode == "L" else (number % 256, 7, 9)).save(path)


def write_cub(root: Path) -> None:
    lines = []
    for number in range(400):
        name = f"{number // 2 + 1:03d}.Bird_{number // 2}/Bird_{number:04d}_{number}.jpg"
        save(root / "CUB_200_2011" / "images" / name, number, "L" if number == 0 else "RGB")
        lines.append(f"{number + 1} {name}\n")
    (root / "CUB_200_2011" / "images.txt").write_text("".join(lines))
    (root / "attributes.txt").write_text("1 has_bill_shape::curved\n")


CARS = np.array([[f"Car {number} {{2012}}" for number in range(196)]], dtype=object)


def annotations_of(field: str, names: list[str], numbers: range) -> np.ndarray:
    """What MATLAB calls a struct array: the names, boxes and classes of cars, two of each."""
    kinds = [("bbox_x1", object), ("class", object), (field, object)]
    annotations = np.zeros((1, len(names)), dtype=kinds)
    for place, (name, number) in enumerate(zip(names, numbers, strict=True)):
        annotations[0, place] = (1, number // 2 + 1, name)
    return annotations


def write_cars(root: Path) -> None:
    names = [f"car_ims/{number + 1:06d}.jpg" for number in range(392)]
    for number, name in enumerate(names):
        save(root / name, number)
    cars = annotations_of("relative_im_path", names, range(392))
    savemat(root / "cars_annos.mat", {"annotations": cars, "class_names": CARS})


def write_split_cars(root: Path) -> Path:
    """Write the same cars as torchvision reads them: one of each class in either half."""
    (root / "devkit").mkdir(parents=True)
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for half, numbers in (("train", range(0, 392, 2)), ("test", range(1, 392, 2))):
        names = [f"{place + 1:05d}.jpg" for place in range(196)]
        for name, number in zip(names, numbers, strict=True):
            save(root / f"cars_{half}" / name, number)
        savemat(root / files[half], {"annotations": annotations_of("fname", names, numbers)})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": CARS})
    return root


def write_products(root: Path) -> None:
    number = 0
    for half, classes in (("train", (1, 2, 3)), ("test", (4, 5))):
        lines = ["image_id class_id super_class_id path\n"]
        for label in classes:
            for view in range(3):
                number += 1
                name = f"bicycle_final/1110{label}_{view}.JPG"
                save(root / "Stanford_Online_Products" / name, number)
                lines.append(f"{number} {label} 1 {name}\n")
        path = root / "Stanford_Online_Products" / f"Ebay_{half}.txt"
        path.write_text("".join(lines))


WRITERS: dict[str, Callable[[Path], None]] = {
    "cub200": write_cub, "cars196": write_cars, "sop": write_products,
}  # fmt: skip


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each dataset, unpacked."""
    roots = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, root in roots.items():
        WRITERS[name](root)
    return roots


def packed(original: Path, name: str, root: Path) -> Path:
    """Put the archive of a dataset, and what lies beside it, into ``root``."""
    root.mkdir()
    folder = RETRIEVAL_SETS[name][0].folder
    if ARCHIVES[name].endswith(".zip"):
        shutil.make_archive(str(root / folder), "zip", original, folder)
    else:
        with tarfile.open(root / ARCHIVES[name], "w:gz") as archive:
            archive.add(original / folder, folder)
    if name == "cars196":
        shutil.copy(original / "cars_annos.mat", root)
    return root


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def load(name: str, root: Path, **settings: object) -> Dataset:
    request = DatasetRequest(name, str(root), image_size=8, decoders=0, **settings)  # type: ignore[arg-type]
    return load_dataset(request, root / "no-cache")


@pytest.mark.parametrize("name", NAMES)
def test_the_published_split_has_disjoint_classes(name: str, originals: dict[str, Path]) -> None:
    dataset, (train, test) = load(name, originals[name]), CLASSES[name]
    assert np.unique(dataset.train.labels).tolist() == list(range(train))
    assert np.unique(dataset.test.labels).tolist() == list(range(train, train + test))
    each = 3 if name == "sop" else 2
    assert set(Counter(dataset.test.labels.tolist()).values()) == {each}
    assert len(dataset.classes) == train + test
    assert dataset.is_streamed
    assert dataset.image_size == (8, 8)
    info = inspect_dataset(DatasetRequest(name, str(originals[name])))
    assert (info.train_classes, info.test_classes) == (train, test)
    assert (info.train_images, info.test_images) == (train * each, test * each)
    assert (info.size, info.notes) == ((224, 224), ())
    assert not needs_download(DatasetRequest(name, str(originals[name])), originals[name])


def test_classes_have_the_names_of_their_files(originals: dict[str, Path]) -> None:
    classes = {name: load(name, root).classes for name, root in originals.items()}
    assert classes["cub200"][41] == "042.Bird_41"
    assert classes["cars196"][41] == "Car 41 {2012}"
    assert classes["sop"] == ("1", "2", "3", "4", "5")


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_looked_into_and_then_unpacked_once(
    name: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    root = packed(originals[name], name, tmp_path / "data")
    before = names_in(root)
    request = DatasetRequest(name, str(root), image_size=8)
    info = inspect_dataset(request)
    assert is_packed(name, str(root))
    assert f"still in {root / ARCHIVES[name]}" in info.notes[0]
    assert names_in(root) == before
    dataset = load(name, root)
    folder = RETRIEVAL_SETS[name][0].folder
    assert names_in(root) == sorted([*before, folder])
    assert not is_packed(name, str(root))
    assert dataset.fingerprint == load(name, originals[name]).fingerprint
    (root / ARCHIVES[name]).unlink()
    assert load(name, root).fingerprint == dataset.fingerprint
    assert load(name, root / folder).fingerprint == dataset.fingerprint


def test_its_images_train_in_batches_of_classes_in_colour(originals: dict[str, Path]) -> None:
    from rkkd_cli.data.class_batches import PerClass

    dataset = load("cub200", originals["cub200"], crop="window")
    stream = Stream(dataset, torch.device("cpu"), 8, seed=0, per_class=PerClass(2, 3))
    for batch in stream.epoch(1):
        assert batch.images.shape == (8, 3, 8, 8)
        assert set(Counter(batch.labels.tolist()).values()) == {2}


def test_other_classes_may_be_taken_of_all_images(originals: dict[str, Path]) -> None:
    split = ClassSplit((150, 3), (0, 199))
    dataset = load("cub200", originals["cub200"], classes=split)
    assert sorted(dataset.train.labels.tolist()) == [3, 3, 150, 150]
    assert sorted(dataset.test.labels.tolist()) == [0, 0, 199, 199]


def test_cars_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    folder = write_split_cars(tmp_path / "stanford_cars")
    theirs = [
        (path, label)
        for half in ("train", "test")
        for path, label in StanfordCars(tmp_path, split=half)._samples
    ]
    for root in (tmp_path, folder):
        dataset = load("cars196", root)
        ours = [
            (split.path(index), label)
            for split in (dataset.train, dataset.test)
            if isinstance(split, StreamedSplit)
            for index, label in enumerate(split.labels.tolist())
        ]
        assert sorted(ours) == sorted(theirs)
        assert dataset.classes == tuple(StanfordCars(tmp_path).classes)
        assert (len(dataset.train), len(dataset.test)) == (196, 196)


def test_they_may_be_held_in_memory(originals: dict[str, Path], tmp_path: Path) -> None:
    request = DatasetRequest("sop", str(originals["sop"]), image_size=8, streaming=False)
    dataset = load_dataset(request, tmp_path)
    assert not dataset.is_streamed
    assert (len(dataset.train), len(dataset.test)) == (9, 6)
    assert dataset.notes == ()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named_with_the_page_that_has_it(name: str, tmp_path: Path) -> None:
    for root in (None, str(tmp_path)):
        with pytest.raises(UserError) as caught:
            inspect_dataset(DatasetRequest(name, root))
        assert ARCHIVES[name] in str(caught.value)
        assert RETRIEVAL_SETS[name][0].official in str(caught.value)


def test_the_cars_need_their_annotations(originals: dict[str, Path], tmp_path: Path) -> None:
    root = packed(originals["cars196"], "cars196", tmp_path / "data")
    (root / "cars_annos.mat").write_bytes(b"no MATLAB at all")
    with pytest.raises(UserError, match=r"cars_annos.mat in .* is damaged"):
        inspect_dataset(DatasetRequest("cars196", str(root)))
    (root / "cars_annos.mat").unlink()
    with pytest.raises(
        UserError, match=r"has no cars_annos.mat; put there car_ims.tgz and cars_annos"
    ):
        inspect_dataset(DatasetRequest("cars196", str(root)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(
    name: str, size: int, originals: dict[str, Path], tmp_path: Path
) -> None:
    root = packed(originals[name], name, tmp_path / "data")
    archive = root / ARCHIVES[name]
    archive.write_bytes(archive.read_bytes()[:size])
    before = names_in(root)
    with pytest.raises(UserError, match=ARCHIVES[name]):
        load(name, root)
    assert names_in(root) == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [("1 ../../etc/passwd", "damaged"), ("1 001.A/../../b.jpg", "leads out"), ("1", "damaged"),
     ("", "no images are listed"), ("1 /etc/1.jpg", "damaged")],
)  # fmt: skip
def test_a_damaged_list_is_refused(
    line: str, reason: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "CUB_200_2011").mkdir()
    (tmp_path / "CUB_200_2011" / "images.txt").write_text(line)
    with pytest.raises(UserError, match=reason) as caught:
        inspect_dataset(DatasetRequest("cub200", str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"test_share": 0.1}, "test_share is for image folders; sop has classes to test on"),
        ({"streaming": False}, "give one, such as --image-size 64"),
        ({"streaming": False, "crop": "window"}, "leave out dataset.streaming = false"),
        ({"classes": ClassSplit((0,), (5,))}, "test names class 5, and the dataset has .* 0 to 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, object], sentence: str, originals: dict[str, Path]
) -> None:
    request = DatasetRequest("sop", str(originals["sop"]), **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=sentence):
        inspect_dataset(request)
