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
from contextlib import suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

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


class RetrievalSet(NamedTuple):
    """Where a dataset's official files are: ``folder``, which is also its archive's name.

    ``lists`` are read by ``read``; the root has them, or the archive.
    """

    folder: str
    lists: tuple[str, ...]
    page: str
    read: Callable[..., Listed]


def _read_cub(images: bytes) -> Listed:
    """Read lines such as ``1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg``."""
    names = [line.split()[1] for line in images.decode().splitlines() if line.strip()]
    folder_of = {int(name[:3]) - 1: name.partition("/")[0] for name in names}
    labels = [int(name[:3]) - 1 for name in names]
    paths = [f"CUB_200_2011/images/{name}" for name in names]
    return Listed(paths, labels, _names_of(folder_of), _halves(200))


def _read_cars(annotations: bytes) -> Listed:
    """Read a file of MATLAB: the classes' names, and each image's path and class, from 1 on."""
    from scipy.io import loadmat

    content = loadmat(BytesIO(annotations), squeeze_me=True)  # type: ignore[arg-type]  # takes files
    images = np.atleast_1d(content["annotations"])
    labels = [int(number) - 1 for number in images["class"]]
    classes = tuple(map(str, content["class_names"]))
    return Listed([*map(str, images["relative_im_path"])], labels, classes, _halves(196))


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


RETRIEVAL_SETS: dict[str, RetrievalSet] = {
    "cub200": RetrievalSet(
        "CUB_200_2011",
        ("CUB_200_2011/images.txt",),
        "https://data.caltech.edu/records/65de6-vp158",
        _read_cub,
    ),
    "cars196": RetrievalSet(
        "car_ims",
        ("cars_annos.mat",),
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        _read_cars,
    ),
    "sop": RetrievalSet(
        "Stanford_Online_Products",
        ("Stanford_Online_Products/Ebay_train.txt", "Stanford_Online_Products/Ebay_test.txt"),
        "https://cvgl.stanford.edu/projects/lifted_struct/",
        _read_products,
    ),
}


def scan_retrieval_set(name: str, root: str | None, split: ClassSplit | None) -> Tree:
    """Return the files of a dataset, by its published split, or by ``split`` of all its images.

    Its images may still lie in the archive. Raises UserError if the files are not there.
    """
    files = RETRIEVAL_SETS[name]
    folder = _root_of(name, root)
    lists = [_read(name, folder, path) for path in files.lists]
    try:
        listed = files.read(*lists)
        if not listed.names:
            raise ValueError("it lists no images")
        _refuse_ways_out(listed.names)
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{' or '.join(files.lists)} in {folder} is damaged ({reason}); take it anew from "
            f"{files.page}"
        ) from None
    names = np.array([os.fsencode(path.replace("/", os.sep)) for path in listed.names])
    images = FileIndex(folder, names, np.array(listed.labels, dtype=np.int64))
    train, test = split_by_class(images, images, split or listed.split, listed.classes)
    packed = _packed(name, folder)
    notes = () if packed is None else (f"the images are still in {packed}",)
    return Tree(folder, train, test, None, listed.classes, notes)


def is_packed(name: str, root: str | None) -> bool:
    """Return whether a dataset is one of these, and not unpacked yet."""
    return name in RETRIEVAL_SETS and _packed(name, _root_of(name, root)) is not None


def unpack_retrieval_set(name: str, root: str | None) -> None:
    """Unpack the archive beside it, unless that has been done: whole, or not at all.

    Raises UserError if it is damaged, or the folder cannot be written.
    """
    folder, wanted = _root_of(name, root), RETRIEVAL_SETS[name].folder
    archive = _packed(name, folder)
    if archive is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as inside:
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, inside)
            else:
                shutil.unpack_archive(archive, inside, filter="data")
            if not (Path(inside) / wanted).is_dir():
                raise ValueError(f"it has no folder {wanted}")
            with suppress(FileExistsError):  # another process was faster
                (Path(inside) / wanted).rename(folder / wanted)
    except UNREADABLE as error:
        raise UserError(f"cannot unpack {archive}: {error}") from None


def _root_of(name: str, root: str | None) -> Path:
    """Return the folder that has the dataset's folder or archive; ``root`` may be the former."""
    files = RETRIEVAL_SETS[name]
    if root is None:
        raise UserError(f"{name} needs --data-root: {_what_to_put(name)}")
    folder = Path(root).expanduser()
    return folder.parent if folder.name == files.folder else folder


def _what_to_put(name: str) -> str:
    files = RETRIEVAL_SETS[name]
    archive = files.folder + (".zip" if name == "sop" else ".tgz")
    besides = "".join(f" and {path}" for path in files.lists if "/" not in path)
    return f"take {archive}{besides} from {files.page}, and give the folder in which it lies"


def _packed(name: str, root: Path) -> Path | None:
    """Return the archive if it is not unpacked yet."""
    folder = RETRIEVAL_SETS[name].folder
    return None if (root / folder).is_dir() else _archive(root, folder)


def _archive(root: Path, folder: str) -> Path | None:
    paths = (root / f"{folder}{suffix}" for suffix in ARCHIVE_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _read(name: str, root: Path, path: str) -> bytes:
    """Return a file below the root, or in the archive there. Raises UserError."""
    folder = RETRIEVAL_SETS[name].folder
    archive, content = _archive(root, folder), None
    try:
        if (root / path).is_file():
            content = (root / path).read_bytes()
        elif archive is not None:
            content = _read_in_archive(archive, path)
    except UNREADABLE as error:
        raise UserError(f"cannot read {archive or root / path}: {error}") from None
    has_images = archive is not None or (root / folder).is_dir()
    if content is None or not has_images:
        missing = path if has_images else folder
        raise UserError(f"{name} is not in {root}, which has no {missing}: {_what_to_put(name)}")
    return content


def _read_in_archive(archive: Path, path: str) -> bytes | None:
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
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name} leads out of the folder")
