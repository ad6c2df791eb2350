"""CUB-200-2011, Cars196 and Stanford Online Products, from their official archives or folders.

Their published splits for metric learning: the first 100 of 200 birds (Wah et al. 2011), the first
98 of 196 cars (Krause et al. 2013), and the products of ``Ebay_train.txt`` (Song et al.,
arXiv 1511.06452); the other classes are tested on, with all of their images.
"""

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rkkd_cli.data.class_split import ClassSplit, split_by_class
from rkkd_cli.data.folder_scan import FileIndex, Tree
from rkkd_cli.errors import UserError

# What readers of damaged archives raise.
UNREADABLE = (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
ARCHIVE_SUFFIXES = (".tgz", ".tar.gz", ".zip")


class Listed(NamedTuple):
    """The images that the files of a dataset list: their names below the root, and labels.

    ``split`` is the published one.
    """

    names: Sequence[str]
    labels: Sequence[int]
    classes: tuple[str, ...]
    split: ClassSplit


class Layout(NamedTuple):
    """A dataset's official files: ``folder`` has the images, ``lists`` say what they are.

    The folder may be packed, in an archive of its name, and so may the lists inside it. ``read``
    takes the contents of the lists. ``official``: what there is at the page to take.
    """

    folder: str
    lists: tuple[str, ...]
    read: Callable[..., Listed]
    official: str


def _read_cub(images: bytes) -> Listed:
    """Read lines such as ``1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg``."""
    names = [line.split()[1] for line in images.decode().splitlines() if line.strip()]
    folder_of = {int(name[:3]) - 1: name.partition("/")[0] for name in names}
    labels = [int(name[:3]) - 1 for name in names]
    paths = [f"CUB_200_2011/images/{name}" for name in names]
    return Listed(paths, labels, _names_of(folder_of), _halves(200))


def _read_cars(annotations: bytes) -> Listed:
    """Read each image's path and class, from 1 on, and the classes' names, from MATLAB's files."""
    content = _matlab(annotations)
    images = np.atleast_1d(content["annotations"])
    names = [*map(str, images["relative_im_path"])]
    return _listed_cars(names, images["class"], content["class_names"])


def _read_split_cars(train: bytes, test: bytes, meta: bytes) -> Listed:
    """Read the same of the later release, whose training and test images have folders."""
    halves = [np.atleast_1d(_matlab(content)["annotations"]) for content in (train, test)]
    names = [
        f"stanford_cars/cars_{half}/{name}"
        for half, images in zip(("train", "test"), halves, strict=True)
        for name in images["fname"]
    ]
    numbers = [number for images in halves for number in images["class"]]
    return _listed_cars(names, numbers, _matlab(meta)["class_names"])


def _matlab(content: bytes) -> Mapping[str, Any]:
    from scipy.io import loadmat

    read: Mapping[str, Any] = loadmat(BytesIO(content), squeeze_me=True)  # type: ignore[arg-type]
    return read


def _listed_cars(names: Sequence[str], numbers: Iterable[Any], classes: Iterable[Any]) -> Listed:
    labels = [int(number) - 1 for number in numbers]
    return Listed(names, labels, tuple(map(str, classes)), _halves(196))


def _read_products(train: bytes, test: bytes) -> Listed:
    """Read lines such as ``1 1 1 bicycle_final/111085122871_0.JPG``: image, class, kind, path."""
    lines = [
        [line.split() for line in text.decode().splitlines()[1:] if line.strip()]
        for text in (train, test)
    ]
    halves = [sorted({int(line[1]) - 1 for line in half}) for half in lines]
    both = [*lines[0], *lines[1]]
    labels = [int(line[1]) - 1 for line in both]
    classes = _names_of({label: str(label + 1) for label in labels})
    paths = [f"Stanford_Online_Products/{line[3]}" for line in both]
    return Listed(paths, labels, classes, ClassSplit(tuple(halves[0]), tuple(halves[1])))


def _names_of(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(label, str(label + 1)) for label in range(max(names, default=-1) + 1))


def _halves(classes: int) -> ClassSplit:
    half = classes // 2
    return ClassSplit(tuple(range(half)), tuple(range(half, classes)))


RETRIEVAL_SETS: dict[str, tuple[Layout, ...]] = {
    "cub200": (
        Layout(
            "CUB_200_2011",
            ("CUB_200_2011/images.txt",),
            _read_cub,
            "CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158",
        ),
    ),
    "cars196": (
        Layout(
            "car_ims",
            ("cars_annos.mat",),
            _read_cars,
            "car_ims.tgz and cars_annos.mat from "
            "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        ),
        Layout(
            "stanford_cars",
            (
                "stanford_cars/devkit/cars_train_annos.mat",
                "stanford_cars/cars_test_annos_withlabels.mat",
                "stanford_cars/devkit/cars_meta.mat",
            ),
            _read_split_cars,
            "stanford_cars, the folder that torchvision reads,",
        ),
    ),
    "sop": (
        Layout(
            "Stanford_Online_Products",
            ("Stanford_Online_Products/Ebay_train.txt", "Stanford_Online_Products/Ebay_test.txt"),
            _read_products,
            "Stanford_Online_Products.zip from https://cvgl.stanford.edu/projects/lifted_struct/",
        ),
    ),
}


@dataclass(frozen=True)
class _Files:
    """A dataset's files in ``root``, packed or not, or missing."""

    name: str
    layout: Layout
    root: Path

    @property
    def folder(self) -> Path:
        """The folder of the images, if it is unpacked."""
        return self.root / self.layout.folder

    @property
    def archive(self) -> Path | None:
        """The archive, if there is one."""
        paths = (self.root / f"{self.layout.folder}{suffix}" for suffix in ARCHIVE_SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    @property
    def packed(self) -> Path | None:
        """The archive, if it is not unpacked yet."""
        return None if self.folder.is_dir() else self.archive

    def read(self, path: str) -> bytes:
        """Return a file, or what it is in the archive. Raises UserError."""
        content, archive = None, self.archive
        try:
            if (self.root / path).is_file():
                content = (self.root / path).read_bytes()
            elif archive is not None:
                content = _read_in_archive(archive, path, archive.stat().st_mtime_ns)
        except UNREADABLE as error:
            raise UserError(f"cannot read {archive or self.root / path}: {error}") from None
        has_images = self.folder.is_dir() or archive is not None
        if content is None or not has_images:
            missing = path if has_images else self.layout.folder
            raise UserError(
                f"{self.name} is not in {self.root}, which has no {missing}; put there "
                f"{self.layout.official}"
            )
        return content


def scan_retrieval_set(name: str, root: str | None, split: ClassSplit | None) -> Tree:
    """Return the files of a dataset, by its published split, or by ``split`` of all its images.

    Its images may still be in the archive. Raises UserError if the files are not there.
    """
    files = _find(name, root)
    lists = [files.read(path) for path in files.layout.lists]
    try:
        listed = files.layout.read(*lists)
        if not listed.names:
            raise ValueError("no images are listed")
        _refuse_ways_out(listed.names)
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{' or '.join(files.layout.lists)} in {files.root} is damaged ({reason}); take "
            f"{files.layout.official} anew"
        ) from None
    names = np.array([os.fsencode(path.replace("/", os.sep)) for path in listed.names])
    images = FileIndex(files.root, names, np.array(listed.labels, dtype=np.int64))
    train, test = split_by_class(images, images, split or listed.split, listed.classes)
    notes = () if files.packed is None else (f"the images are still in {files.packed}",)
    return Tree(files.root, train, test, None, listed.classes, notes)


def is_packed(name: str, root: str | None) -> bool:
    """Return whether a dataset is one of these, and not unpacked yet."""
    return name in RETRIEVAL_SETS and _find(name, root).packed is not None


def unpack_retrieval_set(name: str, root: str | None) -> None:
    """Unpack the archive beside it, unless that has been done: whole, or not at all.

    Raises UserError if it is damaged, or the folder cannot be written.
    """
    files = _find(name, root)
    archive = files.packed
    if archive is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=files.root) as inside:
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, inside)
            else:
                shutil.unpack_archive(archive, inside, filter="data")
            unpacked = Path(inside) / files.layout.folder
            if not unpacked.is_dir():
                raise ValueError(f"it has no folder {files.layout.folder}")
            try:
                unpacked.rename(files.folder)
            except OSError:
                if not files.folder.is_dir():  # else another process was faster
                    raise
    except UNREADABLE as error:
        raise UserError(f"cannot unpack {archive}: {error}") from None


def _find(name: str, root: str | None) -> _Files:
    """Return the files in the layout that they have; ``root`` may be the images' folder."""
    layouts = RETRIEVAL_SETS[name]
    if root is None:
        raise UserError(
            f"{name} needs --data-root, the folder that has {layouts[0].official}, unpacked or not"
        )
    folder = Path(root).expanduser()
    there = [
        _Files(name, layout, folder.parent if folder.name == layout.folder else folder)
        for layout in layouts
    ]
    return next((files for files in there if files.folder.is_dir() or files.archive), there[0])


@lru_cache(maxsize=4)
def _read_in_archive(archive: Path, path: str, changed: int) -> bytes | None:
    """Return a file of the archive, last changed then: a large one takes seconds, so only once."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as files:
            return files.read(path) if path in files.namelist() else None
    with tarfile.open(archive) as files:
        for member in files:
            if member.name.removeprefix("./") == path and member.isfile():
                content = files.extractfile(member)
                return content.read() if content else None
    return None


def _refuse_ways_out(names: Iterable[str]) -> None:
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name} leads out of the folder")
