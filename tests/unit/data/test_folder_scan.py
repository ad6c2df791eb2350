"""Image folders as people have them: what is listed, what is left out, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.folder_scan import IMAGE_SUFFIXES, Tree, scan_folder
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.reading import check_images, inspect_dataset, load_dataset
from rkkd_cli.data.streaming.decode import FORMATS, read_rgb
from rkkd_cli.errors import UserError


def write_image(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, 0, 0)).save(path, format="PNG")
    return path


def write_split(folder: Path, first_level: int = 0) -> None:
    for label in ("a", "b"):
        for number in range(2):
            level = first_level + number + 2 * (label == "b")
            write_image(folder / label / f"{number}.png", level)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with two images each in train/ and test/, all of them different."""
    write_split(tmp_path / "images" / "train")
    write_split(tmp_path / "images" / "test", 100)
    return tmp_path / "images"


def counts(tree: Tree) -> list[int]:
    return [len(split) for split in tree.splits]


def request(root: Path, **settings: object) -> DatasetRequest:
    return DatasetRequest("folder", str(root), **settings)  # type: ignore[arg-type]


def load(root: Path, **settings: object) -> Dataset:
    return load_dataset(request(root, **settings), root.parent / "cache")


STRAYS = [
    "train/a/.ipynb_checkpoints/0-checkpoint.png",
    "train/a/._0.png",
    "train/a/.DS_Store",
    "train/.hidden/0.png",
    "train/@eaDir/SYNOPHOTO_THUMB_M.png",
    "train/a/@eaDir/0.png",
    "test/b/#recycle/0.png",
    "test/__MACOSX/0.png",
    "train/$RECYCLE.BIN/0.png",
    "train/lost+found/0.png",
    "test/System Volume Information/0.png",
]


@pytest.mark.parametrize("name", STRAYS)
def test_what_programs_leave_is_left_out_and_counted(name: str, root: Path) -> None:
    write_image(root / name)
    tree = scan_folder(root)
    assert (counts(tree), tree.classes) == ([4, 4], ("a", "b"))
    assert tree.notes == (
        f"left out of {root}: 1 hidden files and folders, or such as programs leave behind",
    )


def test_files_of_other_kinds_are_counted_by_suffix(root: Path) -> None:
    for name in ("train/a/notes.txt", "train/b/deep/labels.JSON", "test/README", "test/a/x.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert scan_folder(root).notes == (
        f"left out of {root}: 4 files that are no images by name (no suffix, .json, .txt)",
    )


def test_every_suffix_of_the_formats_that_are_decoded_is_an_image() -> None:
    Image.init()
    theirs = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert set(IMAGE_SUFFIXES) == theirs


def test_a_jfif_is_an_image(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "train" / "a" / "2.jfif", format="JPEG")
    assert counts(scan_folder(root)) == [5, 4]


NAMES = [
    ("training", "testing"), ("Train", "Test"), ("train", "val"), ("train", "valid"),
    ("train", "Validation"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), NAMES)
def test_two_splits_are_found_by_what_people_call_them(train: str, test: str, root: Path) -> None:
    (root / "train").rename(root / train)
    (root / "test").rename(root / test)
    tree = scan_folder(root)
    assert counts(tree) == [4, 4]
    assert tree.test.path(0) == root / test / "a" / "0.png"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_three_splits_are_each_used_for_what_they_are_called(
    name: str, streaming: bool, root: Path
) -> None:
    write_split(root / name, 50)
    (root / name / "b" / "1.png").unlink()
    for _ in range(2):  # decoded, then read from the cache
        dataset = load(root, streaming=streaming, image_size=8)
        assert dataset.val is not None
        assert dataset.val.labels.tolist() == [0, 0, 1]
        assert (len(dataset.train), len(dataset.test)) == (4, 4)
    info = inspect_dataset(request(root, streaming=streaming, image_size=8))
    assert (info.train_images, info.val_images, info.test_images) == (4, 3, 4)
    both = inspect_dataset(request(root, streaming=streaming, image_size=8, val_share=0.5))
    assert (both.train_images, both.val_images, both.test_images) == (4, 3, 4)
    assert "dataset.val_share = 0.5 is not used" in both.notes[-1]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Ten images of class a and five of class b, side by side in their class folders."""
    for number in range(15):
        write_image(tmp_path / "flat" / ("b" if number % 3 == 0 else "a") / f"{number}.png", number)
    return tmp_path / "flat"


def names_of(tree: Tree) -> list[list[bytes]]:
    return [split.names.tolist() for split in tree.splits]


def test_a_share_of_class_folders_alone_is_held_out_for_testing(flat: Path) -> None:
    tree = scan_folder(flat, test_share=0.2)
    assert (counts(tree), tree.classes) == ([12, 3], ("a", "b"))
    assert tree.test.labels.tolist() == [0, 0, 1]
    assert sorted(name for names in names_of(tree) for name in names) == sorted(every_name(flat))
    assert tree.notes == (
        f"3 of the 15 training images of {flat} are held out for testing: dataset.test_share = "
        "0.2, split_seed = 0",
    )
    assert names_of(scan_folder(flat, test_share=0.2)) == names_of(tree)
    assert names_of(scan_folder(flat, test_share=0.2, split_seed=1)) != names_of(tree)


def every_name(root: Path) -> list[bytes]:
    return [str(path.relative_to(root)).encode() for path in root.rglob("*.png")]


def test_class_folders_alone_need_a_share_to_test_on(flat: Path) -> None:
    with pytest.raises(UserError, match=r"has class folders \(a, b\) and no train/ and test/"):
        scan_folder(flat)
    with pytest.raises(UserError, match=r"dataset.test_share = 0.01 would hold out 0 of"):
        scan_folder(flat, test_share=0.01)


def test_other_shares_of_the_same_files_are_decoded_anew(flat: Path) -> None:
    kept = [load(flat, test_share=share) for share in (0.2, 0.4, 0.2)]
    assert [len(dataset.test) for dataset in kept] == [3, 6, 3]
    assert kept[0].fingerprint == kept[2].fingerprint != kept[1].fingerprint


def test_images_beside_the_class_folders_are_counted(flat: Path) -> None:
    write_image(flat / "loose.png")
    note = scan_folder(flat, test_share=0.2).notes[0]
    assert note == f"left out of {flat}: 1 images outside of class folders"


def test_a_share_is_held_out_where_there_is_no_test_folder(root: Path) -> None:
    (root / "test").rename(root / "val")
    (note,) = scan_folder(root).notes
    assert note == f"{root} has no test/: the images in its val/ are the test images"
    tree = scan_folder(root, test_share=0.5)
    assert tree.val is not None
    assert (counts(tree), tree.val.path(0)) == ([2, 2, 4], root / "val" / "a" / "0.png")
    (root / "val").rename(root / "test")
    tree = scan_folder(root, test_share=0.5)
    assert counts(tree) == [4, 4]
    assert tree.notes == (
        f"dataset.test_share = 0.5 is not used: {root} has test images of its own",
    )


def test_a_share_is_for_folders_only() -> None:
    with pytest.raises(UserError, match=r"dataset.test_share is for image folders; digits has"):
        inspect_dataset(DatasetRequest("digits", test_share=0.2))


def test_the_counts_are_those_that_a_run_uses(flat: Path) -> None:
    asked = {"test_share": 0.2, "val_share": 0.25, "limit_train": 8}
    info = inspect_dataset(request(flat, **asked))
    dataset = load(flat, **asked)
    assert dataset.val is not None
    used = len(dataset.train), len(dataset.val), len(dataset.test)
    assert (info.train_images, info.val_images, info.test_images) == used == (6, 2, 3)
    assert (info.images, info.unused_images) == (15, 4)


def test_two_folders_of_one_split_are_refused(root: Path) -> None:
    write_split(root / "val")
    write_split(root / "valid")
    with pytest.raises(UserError, match="has val/ and valid/, which mean the same"):
        scan_folder(root)


def test_an_empty_class_is_like_an_absent_one(root: Path) -> None:
    for path in (root / "test" / "b").iterdir():
        path.unlink()
    empty = scan_folder(root)
    (root / "test" / "b").rmdir()
    absent = scan_folder(root)
    assert counts(empty) == counts(absent) == [4, 2]
    left_out = f"left out of {root}: class folders without images (test/b)"
    untested = (
        f"1 of the 2 classes of {root} have no test images (b): the test accuracy says nothing of "
        "them"
    )
    assert empty.notes == (left_out, untested)
    assert absent.notes == (untested,)


def test_an_empty_training_class_is_no_class(root: Path) -> None:
    (root / "train" / "c").mkdir()
    assert scan_folder(root).classes == ("a", "b")
    write_image(root / "test" / "c" / "0.png")
    with pytest.raises(UserError, match=r"class 'c' is in .*test but not in .*train"):
        scan_folder(root)


def test_a_class_of_one_image_is_named_before_anything_is_decoded(root: Path) -> None:
    (root / "train" / "b" / "1.png").unlink()
    write_image(root / "train" / "a" / "2.png")
    (root / "train" / "a" / "1.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"needs two training images per class: class 'b' has one"):
        inspect_dataset(request(root, val_share=0.5))


def test_all_broken_images_are_named_at_once(root: Path) -> None:
    broken = [root / name for name in ("train/a/1.png", "train/b/0.png", "test/b/1.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:50])
    for check in (check_images, lambda asked: load_dataset(asked, root.parent / "cache")):
        with pytest.raises(UserError) as refusal:
            check(request(root))
        assert str(refusal.value).startswith("3 images have to be replaced or removed: ")
        assert all(str(path) in str(refusal.value) for path in broken)
    assert not (root.parent / "cache").exists()


def test_many_broken_images_are_not_all_named(root: Path) -> None:
    for number in range(30):
        (root / "train" / "a" / f"x{number}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"30 images have to be .*; and 20 more$") as refusal:
        check_images(request(root))
    assert str(refusal.value).count("cannot decode") == 10


def test_test_images_among_the_training_images_are_reported(root: Path) -> None:
    assert load(root).notes == ()
    for name in ("x.png", "y.png"):
        (root / "test" / "a" / name).write_bytes((root / "train" / "b" / "1.png").read_bytes())
    for _ in range(2):
        (note,) = load(root).notes
        assert note.startswith("2 held-out images are also among the training images, byte for")
        assert str(root / "test" / "a" / "x.png") in note


def test_of_a_stream_copies_under_the_same_name_are_reported(root: Path) -> None:
    kept = {"streaming": True, "image_size": 8}
    assert load(root, **kept).notes == ()
    (root / "test" / "a" / "1.png").write_bytes((root / "train" / "b" / "1.png").read_bytes())
    (root / "test" / "a" / "x.png").write_bytes((root / "train" / "b" / "1.png").read_bytes())
    (note,) = load(root, **kept).notes
    assert note.startswith("1 held-out image is also among the training images, byte for byte")
    assert str(root / "test" / "a" / "1.png") in note


def test_photographs_are_not_turned_and_hidden_colours_stay_as_in_torchvision(
    tmp_path: Path,
) -> None:
    turned, clear = tmp_path / "turned.jpg", tmp_path / "clear.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90°
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(turned, exif=exif)
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(clear)
    for path, shape in ((turned, (32, 40, 3)), (clear, (8, 8, 3))):
        assert read_rgb(path, None).shape == shape
        assert np.array_equal(read_rgb(path, None), np.asarray(pil_loader(str(path))))


def test_grey_of_sixteen_bits_is_scaled_by_its_full_range(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "16.png")
    read = read_rgb(tmp_path / "16.png", None)
    assert np.array_equal(read, np.repeat(np.rint(levels / 257)[..., None], 3, axis=2))
