"""Batches: pixels and boxes of torchvision's own transform, and boxes stay on their pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection_folders import coco_content, write_roboflow
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from rkkd_cli.data.detection.annotations import by_image
from rkkd_cli.data.detection.batches import DetectionImages, View
from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionRequest
from rkkd_cli.data.detection.reading import load_detection
from rkkd_cli.data.detection.scenes import SceneSplit

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


def dataset(split: SceneSplit, **changes: Any) -> DetectionDataset:
    settings = {
        "mean": MEAN,
        "std": STD,
        "min_size": (),
        "max_size": 1333,
        "flip": False,
        **changes,
    }
    return DetectionDataset(
        "test", split, split, None, ("a", "b"), (0, 1), is_streamed=False, **settings
    )


def split_of(*images: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> SceneSplit:
    """Random images of these heights and widths, each with one box: of the whole image, or this."""
    generator = np.random.default_rng(0)
    boxes = np.array([box or (0, 0, width, height) for height, width in images], np.float64)
    numbers = np.arange(len(images))
    annotations = by_image(
        numbers, boxes, numbers % 2, np.full(len(images), 9.0), numbers < 0, len(images)
    )
    pixels = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in images]
    return SceneSplit(tuple(pixels), annotations)


sides = st.integers(8, 90)


@settings(max_examples=25)
@given(
    images=st.lists(st.tuples(sides, sides), min_size=1, max_size=4),
    min_size=st.integers(8, 100),
    max_size=st.integers(40, 130),
)
def test_held_out_batches_are_those_of_torchvisions_detectors(
    images: list[tuple[int, int]], min_size: int, max_size: int
) -> None:
    split = split_of(*images)
    data = dataset(split, min_size=(4, min_size), max_size=max_size)
    (batch,) = DetectionImages(split, data, CPU).in_order(8)
    transform = GeneralizedRCNNTransform(min_size, max_size, [*MEAN], [*STD]).eval()
    pixels = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in split.images]
    targets = [{"boxes": split.objects(index).boxes} for index in range(len(images))]
    expected, resized = transform(pixels, targets)
    assert torch.equal(batch.images, expected.tensors)
    assert batch.sizes == tuple(expected.image_sizes)
    assert batch.originals == tuple(images)
    for objects, target, index in zip(batch.objects, resized, range(9), strict=False):
        assert torch.equal(objects.boxes, target["boxes"])
        assert objects.areas.tolist() == [9]  # of the original image
        assert objects.labels.tolist() == [index % 2]
    assert (batch.total, batch.weight, batch.strong) == (len(images), 1.0, None)


@settings(max_examples=40)
@given(
    height=st.integers(20, 90), width=st.integers(20, 90), side=st.integers(20, 150) | st.none(),
    is_flipped=st.booleans(), data=st.data(),
)  # fmt: skip
def test_a_box_stays_on_its_pixels(
    height: int, width: int, side: int | None, is_flipped: bool, data: st.DataObject
) -> None:
    x0, y0 = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    x1, y1 = data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    split = SceneSplit((image,), split_of((height, width), box=(x0, y0, x1, y1)).annotations)
    known = dataset(split, mean=(0.0,) * 3, std=(1.0,) * 3, min_size=(side,) if side else ())
    images = DetectionImages(split, known, CPU)
    view = View(side, is_flipped)
    pixels = [torch.from_numpy(image)]
    batch = images.batch([0], pixels, [split.objects(0)], [view], images.padded_size([0], [view]))
    shown_height, shown_width = batch.sizes[0]
    marked = batch.images[0, 0] > 0.5
    assert not marked[shown_height:].any()
    assert not marked[:, shown_width:].any()
    rows, columns = marked.any(1).nonzero(), marked.any(0).nonzero()
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    scale = max(shown_height / height, shown_width / width, 1)
    for corner, pixel in zip(batch.objects[0].boxes[0], found, strict=True):
        assert abs(float(corner) - float(pixel)) <= 0.5 * scale + 1e-3


def test_all_images_come_in_order_with_their_sizes() -> None:
    split = split_of((64, 70), (33, 40), (100, 64), (64, 64), (40, 128))
    batches = list(DetectionImages(split, dataset(split), CPU).in_order(2))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [tuple(batch.images.shape) for batch in batches] == [
        (2, 3, 64, 96), (2, 3, 128, 64), (1, 3, 64, 128),
    ]  # fmt: skip
    assert [batch.sizes for batch in batches] == [batch.originals for batch in batches]
    first = batches[0].images
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert (first[1, :, 33:] == 0).all()
    assert (first[1, :, :, 40:] == 0).all()
    assert (first[1, :, :33, :40] != 0).any()


def test_files_and_memory_give_the_same_batches(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(3), valid=coco_content(3))
    request = DetectionRequest("coco_folder", root=str(root), decoders=0, min_size=(50,))
    data = load_detection(request, tmp_path)
    (batch,) = DetectionImages(data.test, data, CPU).in_order(3)
    copied = SceneSplit(
        tuple(data.test.read(index).copy() for index in range(3)), data.test.annotations
    )
    (same,) = DetectionImages(copied, data, CPU).in_order(3)
    assert torch.equal(batch.images, same.images)
    assert batch.sizes == same.sizes == ((50, 75),) * 3
