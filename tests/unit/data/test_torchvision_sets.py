"""Downloaded datasets: read from real files of their format, and what a failed download says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from in_memory import pixels_of
from numpy.typing import NDArray

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.reading import inspect_dataset, load_dataset, needs_download
from rkkd_cli.data.torchvision_sets import READERS
from rkkd_cli.errors import RunError, UserError

COUNTS = {"train": 30, "t10k": 20}


def idx(array: NDArray[np.uint8]) -> bytes:
    """The IDX format: two zero bytes, type (8 = uint8), number of dimensions, sizes, data."""
    header = bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + sizes + array.tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> tuple[Path, dict[str, NDArray[np.uint8]]]:
    """A small Fashion-MNIST: the folder, and what is in its files."""
    root, generator = tmp_path / "downloads", np.random.default_rng(0)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    content: dict[str, NDArray[np.uint8]] = {}
    for split, count in COUNTS.items():
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content[f"{split}-{kind}-ubyte"] = array
            (raw / f"{split}-{kind}-ubyte").write_bytes(idx(array))
    return root, content


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection goes to a local port where nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


Fashion = tuple[Path, dict[str, NDArray[np.uint8]]]


def test_files_that_are_there_are_read_without_a_connection(
    fashion: Fashion, offline: None, tmp_path: Path
) -> None:
    root, content = fashion
    dataset = load_dataset(DatasetRequest("fashion_mnist", str(root)), tmp_path / "cache")
    for split, name in ((dataset.train, "train"), (dataset.test, "t10k")):
        assert np.array_equal(pixels_of(split)[:, 0], content[f"{name}-images-idx3-ubyte"])
        assert np.array_equal(split.labels, content[f"{name}-labels-idx1-ubyte"])
        assert (str(pixels_of(split).dtype), str(split.labels.dtype)) == ("uint8", "int64")
        assert pixels_of(split).flags.c_contiguous
    assert len(dataset.classes) == 10
    assert dataset.classes[9] == "Ankle boot"
    assert (dataset.mean, dataset.std, dataset.flip) == ((0.2860,), (0.3530,), True)


def test_the_cache_is_where_downloads_lie_unless_told(
    fashion: Fashion, offline: None, tmp_path: Path
) -> None:
    dataset = load_dataset(DatasetRequest("fashion_mnist"), tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (30, 20)


def test_inspect_dataset_tells_the_facts_and_writes_nothing(
    fashion: Fashion, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    there = inspect_dataset(DatasetRequest("fashion_mnist", str(fashion[0])))
    assert (there.num_classes, there.in_channels, there.size) == (10, 1, (28, 28))
    assert not needs_download(DatasetRequest("fashion_mnist", str(fashion[0])), cache)
    for name in READERS:
        assert needs_download(DatasetRequest(name, str(tmp_path / "nothing")), cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads"]


@pytest.mark.parametrize("name", READERS)
def test_a_failed_download_is_one_sentence_that_names_dataset_folder_and_reason(
    name: str, offline: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    with pytest.raises(RunError) as caught:
        load_dataset(DatasetRequest(name, str(root)), tmp_path / "cache")
    message = str(caught.value)
    assert f"could not download {name} into {root}" in message
    assert "refused" in message
    assert "\n" not in message
    assert not [path for path in root.rglob("*") if path.is_file()]
    assert capfd.readouterr().out == ""


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut, lambda _: b""], ids=["cut", "empty"])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_file_is_answered_with_a_sentence_that_names_the_folder(
    file: str, damage: Callable[[bytes], bytes], fashion: Fashion, offline: None, tmp_path: Path
) -> None:
    root = fashion[0]
    path = root / "FashionMNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    request = DatasetRequest("fashion_mnist", str(root))
    assert needs_download(request, tmp_path / "cache")
    with pytest.raises((RunError, UserError)) as caught:
        load_dataset(request, tmp_path / "cache")
    assert str(root) in str(caught.value)


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    root = tmp_path / "file" / "data"
    with pytest.raises(UserError, match="cannot use the data folder") as caught:
        load_dataset(DatasetRequest("cifar10", str(root)), tmp_path / "cache")
    assert str(root) in str(caught.value)
