"""Image folders from anywhere: links that lead out, images that explode, files that are none."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rkkd_cli.data.folder_arrays import decode_tree, decoded_size, digest_tree
from rkkd_cli.data.folder_scan import Tree, scan_folder
from rkkd_cli.errors import UserError

LIMIT = 1024 * 1024 * 1024 // 4 // 3  # Pillow's: more pixels make it warn, twice as many refuse

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need no rights on POSIX only")


def write_image(path: Path, level: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), level, dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image folder of two classes; images that nobody is to read lie beside it."""
    for place in ("train/a", "train/b", "test/a", "test/b"):
        for number in range(2):
            write_image(tmp_path / "images" / place / f"{number}.png", 40 * number)
    for place in ("secret", "images-more"):
        write_image(tmp_path / place / "key.png", 255)
    return tmp_path / "images"


# A link, and where it leads from the folder around the images, or from the link itself.
WAYS_OUT = {
    "to a file": ("train/a/2.png", "{around}/secret/key.png"),
    "to a file, relative": ("test/b/2.png", "../../../secret/key.png"),
    "to a class": ("train/c", "{around}/secret"),
    "to a class of the test split": ("test/b", "{around}/secret"),
    "to a split": ("train", "{around}/moved"),
    "by a link inside": ("train/a/2.png", "../../way/key.png"),
    "into a neighbour of similar name": ("train/a/2.png", "{around}/images-more/key.png"),
    "to nothing": ("train/a/2.png", "{around}/secret/not there.png"),
}


def link_out(root: Path, way: str) -> Path:
    """Make the link; what stands in its place is moved out of the folder."""
    (root / "way").symlink_to(root.parent / "secret", target_is_directory=True)
    place, target = WAYS_OUT[way]
    link = root / place
    if link.exists():
        link.rename(root.parent / "moved")
    link.symlink_to(target.format(around=root.parent))
    return link


@posix
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_link_that_leads_out_is_refused_and_named(
    way: str, relative: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_out(root, way)
    monkeypatch.chdir(root if relative else root.parent)
    given = Path() if relative else root
    with pytest.raises(UserError) as refusal:
        scan_folder(given)
    shown = link.relative_to(root) if relative else link
    assert str(refusal.value).startswith(f"{shown} is a link that leads out of the image folder")
    assert "dataset.follow_links=true" in str(refusal.value)


@posix
@pytest.mark.parametrize(
    ("way", "more"),
    [
        ("to a file", 1),
        ("to a file, relative", 1),
        ("to a class of the test split", -1),
        ("to a split", 0),
    ],
)
def test_such_a_link_is_followed_where_it_is_allowed(way: str, more: int, root: Path) -> None:
    before = len(paths_of(scan_folder(root)))
    link = link_out(root, way)
    tree = scan_folder(root, follow_links=True)
    assert [path for path in paths_of(tree) if link == path or link in path.parents]
    assert len(paths_of(tree)) == before + more
    assert len(decode_tree(tree, None)[0]) == len(tree.train.labels)


def paths_of(tree: Tree) -> list[Path]:
    return [*tree.train.paths(), *tree.test.paths()]


@posix
def test_a_link_below_a_class_leads_to_nothing_outside(root: Path) -> None:
    (root / "train" / "a" / "deep").symlink_to(root.parent / "secret", target_is_directory=True)
    with pytest.raises(UserError, match="deep is a link to a folder, which is not followed; copy"):
        scan_folder(root, follow_links=True)


@posix
def test_links_within_the_folder_and_a_link_to_it_are_fine(root: Path, tmp_path: Path) -> None:
    (root / "train" / "a" / "2.png").symlink_to(root / "train" / "b" / "1.png")
    (root / "train" / "c").symlink_to("a", target_is_directory=True)
    (root / "val").symlink_to(root / "test", target_is_directory=True)
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    assert scan_folder(link).classes == ("a", "b", "c")
    assert len(scan_folder(link).train.labels) == len(scan_folder(root).train.labels) == 8
    assert digest_tree(scan_folder(link), None).key == digest_tree(scan_folder(root), None).key


def decoded(root: Path, image_size: int | None = None) -> None:
    tree = scan_folder(root)
    digest_tree(tree, image_size)
    decode_tree(tree, image_size)


@posix
@pytest.mark.parametrize("name", ["2.png", "deep"])
@pytest.mark.parametrize("target", ["itself", "its folder", "nothing"])
def test_a_link_that_leads_nowhere_ends_in_a_sentence_or_is_left_out(
    name: str, target: str, root: Path
) -> None:
    link = root / "train" / "a" / name
    link.symlink_to({"itself": link, "its folder": link.parent}.get(target, root / "no.png"))
    try:
        decoded(root)
    except UserError as error:
        assert name in str(error)  # noqa: PT017  # either will do


DECODE = """
import sys
from pathlib import Path
from rkkd_cli.data.folder_arrays import decode_tree, digest_tree
from rkkd_cli.data.folder_scan import scan_folder
tree = scan_folder(Path(sys.argv[1]))
try:
    digest_tree(tree, 8)
    decode_tree(tree, 8)
except ValueError as error:
    print(error)
"""


def said_by_a_process(root: Path, **environment: str) -> str:
    """Decode in a process of its own, which is ended where it waits for ever."""
    return subprocess.run(
        [sys.executable, "-c", DECODE, str(root)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@posix
def test_a_pipe_among_the_images_is_refused_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "train" / "b" / "5.png")
    assert "train/b/5.png" in said_by_a_process(root)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, rows: bytes = b"", *others: bytes) -> bytes:
    """Return a grey PNG of that header, whose pixels are whatever ``rows`` decompress to."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    parts = [chunk(b"IHDR", header), *others, pixels, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BOMBS = {
    "a little more than the limit": png(LIMIT // 8000 + 1, 8000),
    "nearly twice the limit": png(2 * LIMIT // 8000 - 1, 8000),
    "more than twice the limit": png(2 * LIMIT // 8000 + 1, 8000),
    "the largest header": png(2**31 - 1, 2**31 - 1),
    "with all its pixels": png(10_000, 10_000, bytes(10_001) * 10_000),
    "of another format": b"P6 20000 20000 255\n" + bytes(100),
    "of yet another": b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 30000, 30000, 1, 24,
                                          0, 0, 0, 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ["0.png", "7.png"])
@pytest.mark.parametrize("kind", BOMBS)
def test_an_image_of_too_many_pixels_is_refused(kind: str, name: str, root: Path) -> None:
    (root / "train" / "b" / name).write_bytes(BOMBS[kind])
    for size in (None, 8):
        with pytest.raises(UserError, match=rf"train/b/{name} has too many pixels"):
            decode_tree(scan_folder(root), size)
    (root / "train" / "a" / "0.png").write_bytes(BOMBS[kind])
    with pytest.raises(UserError, match=r"train/a/0\.png has too many pixels"):
        decoded_size(scan_folder(root), None)


LIES = {
    "header larger than the pixels": png(2000, 2000, bytes(100)),
    "no pixels": png(8, 8),
    "text that explodes": png(8, 8, bytes(72), chunk(b"zTXt", b"a\0\0" + zlib.compress(
        bytes(80_000_000), 9))),
    "colours that explode": png(8, 8, bytes(72), chunk(b"iCCP", b"a\0\0" + zlib.compress(
        bytes(80_000_000), 9))),
    "nothing wide": png(0, 8, bytes(72)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIES)
def test_an_image_whose_header_lies_is_named_or_read_as_its_pixels(kind: str, root: Path) -> None:
    (root / "train" / "a" / "1.png").write_bytes(LIES[kind])
    try:
        decoded(root)
    except UserError as error:
        assert "train/a/1.png" in str(error)  # noqa: PT017  # either will do
    else:
        assert kind in ("text that explodes", "colours that explode")


def test_more_pixels_than_the_header_says_are_not_read(root: Path) -> None:
    (root / "train" / "a" / "1.png").write_bytes(png(8, 8, bytes(50_000_000)))
    said_by_a_process(root)


def test_a_thin_image_is_not_enlarged_beyond_all_measure(root: Path) -> None:
    Image.new("L", (9_000_000, 1)).save(root / "train" / "a" / "1.png")
    with pytest.raises(UserError, match=r"train/a/1\.png has too many pixels"):
        decode_tree(scan_folder(root), 64)


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(sprung) print
%%EOF
"""


@posix
def test_no_image_starts_a_program(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    trap = tmp_path / "bin" / "gs"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    (root / "train" / "a" / "0.png").write_bytes(POSTSCRIPT)
    said = said_by_a_process(root, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert not (tmp_path / "sprung").exists()
    assert "cannot decode the image" in said


def test_a_file_of_gigabytes_is_named_and_not_read(root: Path) -> None:
    giant = root / "train" / "a" / "1.png"
    os.truncate(giant, 2**40)  # no blocks are written
    for read in (digest_tree, decode_tree):
        with pytest.raises(UserError, match=r"a/1\.png has 1,099,511,627,776 bytes, more than"):
            read(scan_folder(root), 8)
