"""Folders in COCO's format: what is read of them, and one sentence for each that is wrong."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_folders import coco_content, write_coco, write_image, write_roboflow

from rkkd_cli.data.detection.batches import DetectionImages
from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionRequest
from rkkd_cli.data.detection.reading import inspect_detection, load_detection
from rkkd_cli.data.streaming.loader import ImageError
from rkkd_cli.errors import UserError

CPU = torch.device("cpu")


def load(root: Path, name: str = "coco_folder", **settings: Any) -> DetectionDataset:
    return load_detection(request(root, name, **settings), root)


def request(root: Path, name: str = "coco_folder", **settings: Any) -> DetectionRequest:
    return DetectionRequest(name, root=str(root), decoders=0, **settings)


def write_official(root: Path, train: dict[str, Any], val: dict[str, Any]) -> Path:
    for name, content in (("train2017", train), ("val2017", val)):
        write_coco(root / name, root / "annotations" / f"instances_{name}.json", content)
    return root


def test_categories_become_classes_by_their_ids_and_boxes_their_corners(tmp_path: Path) -> None:
    root = write_official(tmp_path, coco_content(3), coco_content(2))
    data = load(root, "coco")
    assert (data.classes, data.category_ids) == (("cat", "dog"), (3, 7))
    assert (len(data.train), len(data.test), data.val) == (3, 2, None)
    objects = data.train.objects(1)
    assert objects.boxes.tolist() == [[2, 2, 12, 22], [2, 2, 13, 22]]
    assert objects.boxes.dtype == objects.areas.dtype == torch.float32
    assert objects.labels.tolist() == [1, 0]
    assert objects.areas.tolist() == [150, 150]
    assert objects.crowd.tolist() == [False, False]
    assert data.train.sizes.tolist() == [[40, 60]] * 3
    assert data.train.read(0).shape == (40, 60, 3)
    assert (data.min_size[0], data.test_size, data.max_size) == (640, 800, 1333)
    assert data.notes == ()


def test_the_usual_layouts_are_found(tmp_path: Path) -> None:
    roboflow = write_roboflow(
        tmp_path / "a", train=coco_content(4), valid=coco_content(1), test=coco_content(2)
    )
    data = load(roboflow)
    assert data.val is not None
    assert [len(split) for split in (data.train, data.val, data.test)] == [4, 1, 2]
    other = tmp_path / "b"
    for name, images in (("train", 3), ("val", 2)):
        path = other / "annotations" / f"instances_{name}.json"
        write_coco(other / name, path, coco_content(images))
    data = load(other)
    assert [len(split) for split in (data.train, data.test)] == [3, 2]
    assert data.val is None
    assert "validation images are the test images" in data.notes[0]


def test_a_training_set_alone_holds_out_a_share(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(10))
    with pytest.raises(UserError, match="--test-share"):
        load(root)
    data = load(root, test_share=0.3, val_share=0.2)
    assert data.val is not None
    names = [split.names.tolist() for split in (data.train, data.val, data.test)]  # type: ignore[attr-defined]
    assert sorted(name for split in names for name in split) == [
        f"train/{i}.png" for i in range(10)
    ]
    assert [*map(len, names)] == [6, 1, 3]
    assert load(root, test_share=0.3, split_seed=1).test.fingerprint != data.test.fingerprint


def test_limits_take_the_same_images_again(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(9), valid=coco_content(6))
    data = load(root, limit_train=5, limit_test=4)
    assert (len(data.train), len(data.test)) == (5, 4)
    assert data.fingerprint == load(root, limit_train=5, limit_test=4).fingerprint


def test_images_without_objects_are_tested_on_and_not_trained_on(tmp_path: Path) -> None:
    content = coco_content(4)
    first, second, third = (content["annotations"][2 * i : 2 * i + 2] for i in range(3))
    for one in first:
        one["iscrowd"] = 1
    for one in second:
        one["bbox"][2] = 0.5  # thinner than a pixel
    third[0]["iscrowd"] = 1
    root = write_roboflow(tmp_path, train=content, valid=content)
    info, data = inspect_detection(request(root)), load(root)
    assert (info.train_images, info.test_images) == (2, 4)
    assert (info.train_objects, info.test_objects) == (3, 5)
    assert "2 of 4 training images have no objects" in " ".join(info.notes)
    assert info.notes == data.notes
    assert data.train.objects(0).crowd.tolist() == [True, False]
    (batch,) = DetectionImages(data.test, data, CPU).in_order(4)
    assert [len(objects.labels) for objects in batch.objects] == [2, 2, 2, 2]
    assert batch.objects[0].crowd.all()


def test_an_area_that_is_not_given_is_that_of_the_box(tmp_path: Path) -> None:
    content = coco_content(1)
    del content["annotations"][0]["area"], content["annotations"][0]["iscrowd"]
    data = load(write_roboflow(tmp_path, train=content, valid=coco_content(1)))
    assert data.train.objects(0).areas.tolist() == [200, 150]


def test_coco_itself_has_boxes_without_area_which_are_left_out(tmp_path: Path) -> None:
    content = coco_content(2)
    content["annotations"][0]["bbox"] = [296.0, 3.0, 0.0, 10.0]
    content["annotations"][1]["bbox"] = [50.5, 30, 30, 9]
    root = write_official(tmp_path, content, coco_content(1))
    data = load(root, "coco")
    assert data.train.objects(0).boxes.tolist() == [[50.5, 30, 60, 39]]
    assert data.notes[0].startswith("boxes without area in")
    assert data.notes[0].endswith("left out: 1")


def test_boxes_by_less_than_a_pixel_outside_are_cut_off(tmp_path: Path) -> None:
    content = coco_content(1)
    content["annotations"][0]["bbox"] = [-0.5, 20, 61, 20.4]
    data = load(write_roboflow(tmp_path, train=content, valid=coco_content(1)))
    assert data.train.objects(0).boxes[0].tolist() == [0, 20, 60, 40]


def test_unused_classes_are_told(tmp_path: Path) -> None:
    content = coco_content(1)
    content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    data = load(write_roboflow(tmp_path, train=content, valid=coco_content(1)))
    assert data.classes == ("animals", "cat", "dog")
    assert data.train.objects(0).labels.tolist() == data.test.objects(0).labels.tolist() == [2, 1]
    assert data.notes[-1] == "1 of 3 classes have no object to train on: animals"


def test_the_fingerprint_is_of_names_objects_and_pixels(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(2), valid=coco_content(1))
    before = load(root).fingerprint
    assert load(root).fingerprint == before
    write_image(root / "train" / "1.png", 40, 60, seed=9)
    pixels = load(root).fingerprint
    content = coco_content(2)
    content["annotations"][0]["bbox"][0] += 1
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    assert len({before, pixels, load(root).fingerprint}) == 3


def change(**values: Any) -> Any:
    def apply(content: dict[str, Any]) -> None:
        content["annotations"][2].update(values)

    return apply


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change(bbox=[70, 2, 5, 5]), r"annotation 102 of train/1.png .* outside its image.*60×40"),
        (change(bbox=[5, 5, 60, 30]), "annotation 102 .* outside its image"),
        (change(bbox=[5, 5, 0, 30]), "annotation 102 of train/1.png .* without area"),
        (change(bbox=[5, 5, -3, 30]), "annotation 102 of train/1.png .* without area"),
        (change(bbox=[float("nan"), 5, 3, 30]), "annotation 102 of train/1.png"),
        (change(bbox=[5, 5, 3]), "annotation 102 .* needs x, y, width and height"),
        (change(bbox=None), "the entry of the id 102 of 'annotations' needs 'bbox', a list"),
        (change(category_id=5), "category 5, which is not listed; the categories are 3, 7"),
        (change(image_id=99), "annotation 102 in .* of the image 99, which is not listed"),
        (change(image_id=[1]), "needs 'image_id'"),
        (lambda c: c["images"][1].pop("file_name"), "the entry of the id 11 of 'images'"),
        (lambda c: c["images"][1].update(id=10), "two images with the id 10"),
        (lambda c: c["categories"][1].update(id=7), "two categories with the id 7"),
        (lambda c: c["images"][1].update(file_name="../../x.png"), "outside of its folder"),
        (lambda c: c["images"][1].update(file_name="no.png"), r"1 of the 3 images .*/no\.png"),
        (lambda c: c["images"][1].update(width=61), r"1\.png has 60×40 pixels, .* 61×40"),
        (lambda c: c["images"][1].update(height=-4), r"the image 1\.png 60×-4 pixels"),
        (change(category_id=10**30), "a number that is too large"),
        (lambda c: c.pop("categories"), "no list 'categories'"),
        (lambda c: c.update(annotations=[]), "has an object"),
        (lambda c: c["images"].clear() or c["annotations"].clear(), "lists no images"),
        (lambda c: c["categories"][0].update(name="wolf"), "'dog' in .* and 'wolf' in"),
    ],
)  # fmt: skip
def test_annotations_that_are_wrong_are_named(tmp_path: Path, damage: Any, sentence: str) -> None:
    content = coco_content(3)
    root = write_roboflow(tmp_path, train=content, valid=coco_content(1))
    damage(content)
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    for name in (inspect_detection, lambda asked: load_detection(asked, tmp_path)):
        with pytest.raises(UserError, match=sentence) as caught:
            name(request(root))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\x00", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    root = write_roboflow(tmp_path, train=coco_content(1), valid=coco_content(1))
    (root / "valid" / "_annotations.coco.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"_annotations.coco.json (are|is) not"):
        load(root)


def test_folders_without_annotations_say_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "absent")
    write_image(tmp_path / "train" / "a.png", 4, 4)
    with pytest.raises(UserError, match=r"train/_annotations\.coco\.json"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"instances_train2017\.json; expected train2017/"):
        load(tmp_path, "coco")
    write_roboflow(tmp_path, train=coco_content(1))
    write_coco(
        tmp_path / "train", tmp_path / "annotations" / "instances_train.json", coco_content()
    )
    with pytest.raises(UserError, match="remove one of them"):
        load(tmp_path)


def test_damaged_images_are_named_at_the_start_or_when_they_are_read(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(3), valid=coco_content(1))
    path = root / "train" / "2.png"
    whole = path.read_bytes()
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png"):
        inspect_detection(request(root))
    path.write_bytes(whole[: len(whole) // 2])  # its header is fine
    data = load(root)
    with pytest.raises(UserError, match=r"cannot decode the image .*2\.png"):
        data.train.read(2)
    batches = data.train.batches([[0, 1], [2]])
    assert [image.shape for image in next(batches)] == [(40, 60, 3)] * 2
    with pytest.raises(ImageError, match=r"cannot decode the image .*2\.png"):
        next(batches)


def test_images_that_are_too_thin_are_named(tmp_path: Path) -> None:
    content = coco_content(2, size=(40, 60))
    content["images"][1].update(height=30, width=1)
    content["annotations"] = content["annotations"][:2]
    root = write_roboflow(tmp_path, train=content, valid=coco_content(1))
    with pytest.raises(UserError, match=r"1\.png has 1×30 pixels, too thin for .* = 30"):
        load(root, max_size=30)
    load(root, max_size=31)


def test_workers_decode_the_same_pixels(tmp_path: Path) -> None:
    content = coco_content(6)
    content["images"][3].update(height=45, width=33)
    root = write_roboflow(tmp_path, train=content, valid=coco_content(1))
    train = load_detection(DetectionRequest("coco_folder", root=str(root), decoders=2), root).train
    for _ in range(2):
        read = [image for batch in train.batches([[5, 3], [0], [1, 2, 4]]) for image in batch]
        for image, index in zip(read, (5, 3, 0, 1, 2, 4), strict=True):
            assert np.array_equal(image.numpy(), train.read(index))
    assert pickle.loads(pickle.dumps(train)).fingerprint == train.fingerprint
