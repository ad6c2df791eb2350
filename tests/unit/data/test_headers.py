"""The sizes of an image folder's files, from their headers."""

from pathlib import Path

import pytest
from PIL import Image

from rkkd_cli.data import headers
from rkkd_cli.data.folder_scan import scan_folder
from rkkd_cli.data.headers import Headers, read_headers


def folder_of(root: Path, sizes: list[tuple[int, int]]) -> Path:
    for number, size in enumerate(sizes):
        for split in ("train", "test"):
            path = root / split / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(path)
    return root


def headers_of(root: Path) -> Headers:
    return read_headers(scan_folder(root))


def test_sizes_are_counted_and_what_is_resized_and_smaller(tmp_path: Path) -> None:
    read = headers_of(folder_of(tmp_path, [(8, 4), (8, 4), (20, 20), (32, 16)]))
    assert read.sizes == {(8, 4): 4, (20, 20): 2, (32, 16): 2}
    assert read.sentences() == [
        "8 image headers read: 3 sizes from 8×4 to 32×16, most often 8×4 (4)"
    ]
    assert read.misfits(16, 16) == ["8 of them are made 16×16", "4 are smaller than 16×16"]
    assert headers_of(folder_of(tmp_path / "one", [(8, 8)])).sentences() == [
        "2 image headers read: all 8×8"
    ]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = folder_of(tmp_path, [(8, 8), (8, 8)]) / "train" / "a" / "0.png"
    broken.write_bytes(b"no image")
    read = headers_of(tmp_path)
    assert (len(read.unreadable), read.images, read.sizes.total()) == (1, 4, 3)
    assert "1 cannot be read: cannot read the image" in read.sentences()[1]
    assert str(broken) in read.sentences()[1]


def test_images_of_two_splits_are_counted_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    read = read_headers(scan_folder(tmp_path, by_class=True))
    assert (len(read.unreadable), read.images, read.sizes.total()) == (1, 3, 2)


def test_of_a_large_folder_some_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "MAX_HEADERS", 5)
    read = headers_of(folder_of(tmp_path, [(8, 8)] * 6))
    assert (read.sizes.total(), read.images) == (4, 12)
    assert read.sentences() == ["4 of 12 image headers read: all 8×8"]
