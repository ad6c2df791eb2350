"""Image folders: what is listed, what is decoded, what is refused and what is cached."""

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from in_memory import pixels_of
from numpy.typing import NDArray
from PIL import Image
from running import FolderMaker

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.folder_arrays import read_arrays, write_arrays
from rkkd_cli.data.folder_scan import scan_folder
from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.reading import inspect_dataset, load_dataset
from rkkd_cli.errors import UserError


def load(root: Path, cache: Path, image_size: int | None = None) -> Dataset:
    return load_dataset(DatasetRequest("folder", str(root), image_size=image_size), cache)


def refusal(root: Path, cache: Path, image_size: int | None = None) -> str:
    """What loading is answered with; the cache must stay empty."""
    with pytest.raises(UserError) as caught:
        load(root, cache, image_size)
    assert not list(cache.rglob("*.*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pixels(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
    shape = (height, width, *channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write_tree(root: Path, *images: Image.Image, suffix: str = "png") -> Path:
    """Two classes; ``images`` are the training images of the first."""
    for split, label in (("train", "b"), ("train", "a"), ("test", "a"), ("test", "b")):
        (root / split / label).mkdir(parents=True)
        images[0].save(root / split / label / f"0.{suffix}")
    for number, image in enumerate(images):
        image.save(root / "train" / "a" / f"{number}.{suffix}")
    return root


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_labels_follow_the_sorted_class_names_and_pixels_the_files(
    make_folder: FolderMaker, tmp_path: Path, test_name: str
) -> None:
    root = make_folder(classes=3, train=4, test=2, size=8)
    (root / "test").rename(root / test_name)
    (root / "train" / "class001" / "notes.txt").write_text("no image")
    dataset = load(root, tmp_path / "cache")
    assert dataset.classes == ("class000", "class001", "class002")
    for split, name in ((dataset.train, "train"), (dataset.test, test_name)):
        files = sorted((root / name).rglob("*.png"))
        assert len(files) == len(split) > 0
        for path, image, label in zip(files, pixels_of(split), split.labels, strict=True):
            assert path.parent.name == dataset.classes[label]
            assert np.array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), image)


def test_test_is_preferred_to_val(make_folder: FolderMaker, tmp_path: Path) -> None:
    root = make_folder(test=2)
    (root / "val" / "class000").mkdir(parents=True)
    assert len(load(root, tmp_path / "cache").test) == 6


def test_inspect_dataset_tells_the_shape_and_writes_nothing(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    request = DatasetRequest("folder", str(make_folder(classes=5, size=9)))
    shape = inspect_dataset(request)
    assert (shape.num_classes, shape.in_channels, shape.size) == (5, 3, (9, 9))
    assert not (tmp_path / "cache").exists()


def test_folders_that_are_missing_or_empty_are_named(tmp_path: Path) -> None:
    root, cache = tmp_path / "images", tmp_path / "cache"
    assert f"no such image folder: {root}" in refusal(root, cache)
    root.mkdir()
    assert "has no train/" in refusal(root, cache)
    for folder in ("train", "train/a", "test"):
        (root / folder).mkdir()
        assert "has no train/ with images (.jpg" in refusal(root, cache)
    Image.new("RGB", (8, 8)).save(root / "train" / "a" / "0.png")
    for folder in ("test/a", "val"):
        (root / folder).mkdir()
        assert "has no test/ or val/ with images (.jpg" in refusal(root, cache)


def test_a_folder_needs_its_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --data-root"):
        load_dataset(DatasetRequest("folder"), tmp_path)


def test_a_class_that_only_the_test_split_has_is_named(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    root = make_folder()
    (root / "test" / "class002").rename(root / "test" / "whale")
    message = refusal(root, tmp_path / "cache")
    assert "class 'whale' is in" in message
    assert str(root / "test") in message


def test_a_class_may_be_missing_from_the_test_split(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    root = make_folder(classes=3, test=1)
    (root / "test" / "class001" / "0.png").unlink()
    (root / "test" / "class001").rmdir()
    dataset = load(root, tmp_path / "cache")
    assert dataset.test.labels.tolist() == [0, 2]
    assert len(dataset.classes) == 3


def truncated(image: bytes) -> bytes:
    return image[: len(image) // 2]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "damage", [truncated, lambda _: b"", lambda _: b"no image at all"], ids=["cut", "empty", "text"]
)
def test_an_image_that_cannot_be_decoded_is_named(
    split: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    root = write_tree(tmp_path / "images", Image.fromarray(pixels(16, 16, 3)), suffix="jpg")
    broken = root / split / "b" / "0.jpg"
    broken.write_bytes(damage(broken.read_bytes()))
    assert f"cannot decode the image {broken}" in refusal(root, tmp_path / "cache")


def test_images_of_different_sizes_need_an_image_size(tmp_path: Path) -> None:
    images = [Image.fromarray(pixels(8, 8, 3)), Image.fromarray(pixels(8, 12, 3))]
    root = write_tree(tmp_path / "images", *images)
    message = refusal(root, tmp_path / "cache")
    assert f"{root / 'train' / 'a' / '1.png'} is 12×8, the first one 8×8" in message
    assert "dataset.image_size=" in message
    dataset = load(root, tmp_path / "cache", image_size=10)
    assert pixels_of(dataset.train).shape == (3, 3, 10, 10)


@pytest.mark.parametrize(("height", "width"), [(8, 20), (20, 8), (8, 9), (8, 8)])
def test_at_its_own_short_side_an_image_is_only_cropped_in_the_centre(
    height: int, width: int, tmp_path: Path
) -> None:
    image = pixels(height, width, 3)
    root = write_tree(tmp_path / "images", Image.fromarray(image))
    dataset = load(root, tmp_path / "cache", image_size=8)
    top, left = (height - 8) // 2, (width - 8) // 2
    centre = image[top : top + 8, left : left + 8]
    assert np.array_equal(pixels_of(dataset.train)[0], centre.transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width", "size"), [(64, 96, 16), (10, 33, 32), (7, 7, 24)])
def test_an_image_size_keeps_the_proportions(
    height: int, width: int, size: int, tmp_path: Path
) -> None:
    """A picture whose colour tells the place: the crop is centred and the scale is the same."""
    y, x = np.mgrid[:height, :width]
    place = np.stack([255 * (x + 0.5) / width, 255 * (y + 0.5) / height, 0 * x], axis=-1)
    root = write_tree(tmp_path / "images", Image.fromarray(place.astype(np.uint8)))
    image = pixels_of(load(root, tmp_path / "cache", image_size=size).train)[0].astype(float)
    assert image.shape == (3, size, size)
    short = min(height, width)
    for channel, side in ((0, width), (1, height)):
        profile = image[channel].mean(axis=channel)
        middle = profile[size // 4 : size - size // 4]
        assert middle.mean() == pytest.approx(127.5, abs=255 / min(size, side))
        steps = np.diff(middle).mean()
        assert steps == pytest.approx(255 * short / side / size, rel=0.2)


def resized(image: Image.Image, tmp_path: Path, resize: str) -> NDArray[np.uint8]:
    root = write_tree(tmp_path / "images", image)
    request = DatasetRequest("folder", str(root), image_size=12, resize=resize)  # type: ignore[arg-type]
    image_pixels: NDArray[np.uint8] = pixels_of(load_dataset(request, tmp_path / "cache").train)[0]
    return image_pixels


def test_an_image_is_squashed_or_padded_on_request(tmp_path: Path) -> None:
    """White and 24 × 6, with a red left end and a blue right one."""
    image = Image.new("RGB", (24, 6), "white")
    image.paste("red", (0, 0, 4, 6))
    image.paste("blue", (20, 0, 24, 6))
    cut, squashed, padded = (
        resized(image, tmp_path / way, way) for way in ("crop", "squash", "pad")
    )
    assert (cut == 255).all()
    for kept, rows in ((squashed, slice(0, 12)), (padded, slice(5, 7))):
        assert (kept[:, rows, 0].T == (255, 0, 0)).all()
        assert (kept[:, rows, -1].T == (0, 0, 255)).all()
        assert (kept[:, rows, 6] == 255).all()
    assert (padded[:, :4] == 0).all()
    assert (padded[:, 8:] == 0).all()


def test_fitting_needs_a_size_and_a_folder(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "images", Image.new("RGB", (8, 8)))
    with pytest.raises(UserError, match=r"resize = 'pad' makes images fit dataset.image_size"):
        inspect_dataset(DatasetRequest("folder", str(root), resize="pad"))
    with pytest.raises(UserError, match=r"dataset.resize is for image folders; digits has its own"):
        inspect_dataset(DatasetRequest("digits", resize="pad"))


GREY = pixels(8, 8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), np.stack([GREY] * 3)),
        (Image.fromarray(pixels(8, 8, 4)), pixels(8, 8, 4)[..., :3].transpose(2, 0, 1)),
        (Image.fromarray(GREY > 127), np.stack([(GREY > 127) * 255] * 3)),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.stack([GREY] * 3)),
    ],
    ids=["grey", "RGBA", "black and white", "16-bit grey"],
)
def test_every_kind_of_image_becomes_rgb(
    image: Image.Image, expected: NDArray[np.uint8], tmp_path: Path
) -> None:
    dataset = load(write_tree(tmp_path / "images", image), tmp_path / "cache")
    assert np.array_equal(pixels_of(dataset.train)[0], expected)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_image_becomes_rgb_without_a_word(transparent: bool, tmp_path: Path) -> None:
    palette = Image.fromarray(pixels(8, 8, 3)).quantize(8)
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    if transparent:
        palette.info["transparency"] = bytes([0, 128] + [255] * 6)
    dataset = load(write_tree(tmp_path / "images", palette), tmp_path / "cache")
    assert np.array_equal(pixels_of(dataset.train)[0], expected)


def arrays(cache: Path) -> list[Path]:
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    assert all(path.suffix == ".npz" for path in files), "something half-written is left"
    return files


def test_decoded_arrays_are_written_once_and_reused(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    first = load(root, cache)
    (path,) = arrays(cache)
    written = path.stat()
    for image in root.rglob("*.png"):
        image.touch()
    second = load(root, cache)
    assert arrays(cache) == [path]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    assert first.fingerprint == second.fingerprint


def test_another_content_name_or_size_makes_another_array(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    prints = [load(root, cache).fingerprint]
    image = root / "train" / "class000" / "0.png"
    image.write_bytes((root / "train" / "class000" / "1.png").read_bytes())
    prints.append(load(root, cache).fingerprint)
    prints.append(load(root, cache, image_size=8).fingerprint)
    image.rename(root / "train" / "class001" / "new.png")
    prints.append(load(root, cache).fingerprint)
    assert len(set(prints)) == len(arrays(cache)) == 4


def test_a_moved_tree_is_recognised(make_folder: FolderMaker, tmp_path: Path) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    before = load(root, cache).fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    assert load(moved, cache).fingerprint == before
    assert len(arrays(cache)) == 1


@pytest.mark.parametrize("damage", [truncated, lambda _: b"", lambda _: b"PK nonsense"])
def test_a_damaged_array_is_rebuilt(
    damage: Callable[[bytes], bytes], make_folder: FolderMaker, tmp_path: Path
) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    before = load(root, cache).fingerprint
    (path,) = arrays(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert load(root, cache).fingerprint == before
    assert arrays(cache) == [path]
    assert len(path.read_bytes()) == len(whole)


def test_one_flipped_bit_anywhere_in_an_array_file_is_harmless_or_noticed(tmp_path: Path) -> None:
    split = LabelledImages(pixels(1, 2, 2)[None], np.array([1], dtype=np.int64))
    path = tmp_path / "arrays.npz"
    write_arrays(path, [split, split])
    whole = path.read_bytes()
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place // 2 % 8
        path.write_bytes(damaged)
        read = read_arrays(path, 2)
        assert read is None or read[0].fingerprint == read[1].fingerprint == split.fingerprint


@pytest.mark.skipif("RKKD_TEST_IMAGES" not in os.environ, reason="names no folder of photographs")
def test_real_photographs_are_read_as_they_are(tmp_path: Path) -> None:
    """The variable names an image folder: train/ and test/ with a folder for each class."""
    tree = scan_folder(Path(os.environ["RKKD_TEST_IMAGES"]))
    for number, path in enumerate([*islice(tree.train.paths(), 2), *islice(tree.test.paths(), 2)]):
        root = tmp_path / str(number)
        for place in ("train/a", "train/b", "test/a", "test/b"):
            (root / place).mkdir(parents=True)
            shutil.copy(path, root / place)
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        dataset = load(root, tmp_path / "cache")
        assert np.array_equal(pixels_of(dataset.train), [expected] * 2)
        assert np.array_equal(pixels_of(dataset.test), [expected] * 2)
