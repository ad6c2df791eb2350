"""Pascal VOC: its sets, boxes that count pixels from 1, and objects that are difficult."""

from pathlib import Path

import pytest
from detection_folders import voc_object, write_voc

from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionRequest
from rkkd_cli.data.detection.reading import inspect_detection, load_detection
from rkkd_cli.errors import UserError

DOG = voc_object("dog", (1, 1, 50, 30))


def load(root: Path) -> DetectionDataset:
    return load_detection(DetectionRequest("voc", root=str(root), decoders=0), root)


def test_both_years_are_trained_on_and_2007_is_tested_on(tmp_path: Path) -> None:
    hard = voc_object("person", (11, 12, 20, 22), difficult=1)
    write_voc(tmp_path, "2007", "trainval", {"a": [DOG], "b": [hard]})
    write_voc(tmp_path, "2007", "test", {"c": [hard, DOG], "d": []})
    write_voc(tmp_path, "2012", "trainval", {"2012_a": [voc_object("car", (5, 6, 7.5, 8))]})
    data = load(tmp_path)
    assert len(data.classes) == 20
    assert data.category_ids == tuple(range(1, 21))
    assert (len(data.train), len(data.test)) == (2, 2)  # b has a difficult object alone
    dog, car = data.train.objects(0), data.train.objects(1)
    assert (dog.boxes.tolist(), dog.areas.tolist()) == ([[0, 0, 50, 30]], [1500])
    assert [data.classes[label] for label in (*dog.labels, *car.labels)] == ["dog", "car"]
    assert car.boxes.tolist() == [[4, 5, 7.5, 8]]
    assert data.test.objects(0).crowd.tolist() == [True, False]
    assert data.train.read(1).shape == (30, 50, 3)
    assert data.notes[0].endswith("trained on trainval of 2007 and 2012, tested on test of 2007")
    assert load(tmp_path / "VOCdevkit").fingerprint == data.fingerprint
    info = inspect_detection(DetectionRequest("voc", root=str(tmp_path)))
    assert (info.train_objects, info.test_objects, info.notes) == (2, 1, data.notes)


def test_2012_alone_is_tested_on_its_val(tmp_path: Path) -> None:
    write_voc(tmp_path, "2012", "train", {"a": [DOG]})
    with pytest.raises(UserError, match="cannot read val of VOC2012"):
        load(tmp_path)
    write_voc(tmp_path, "2012", "val", {"b": [DOG]})
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (1, 1)
    assert "tested on val of 2012" in data.notes[0]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (voc_object("unicorn", (1, 1, 5, 5)), r"a\.xml has an object of the category 'unicorn'"),
        (voc_object("cat", (20, 1, 10, 5)), r"an object \(cat\) in .*a\.xml .* without area"),
        (voc_object("cat", (20, 1, 70, 5)), r"an object \(cat\) in .*a\.xml .* outside its image"),
        ("<object><name>cat</name></object>", r"a\.xml has an object without <bndbox>"),
        ("<object>", r"a\.xml are not XML"),
        ("<size>small</size>", r"a\.xml has no <size>"),
    ],
)
def test_annotations_that_are_wrong_are_named(tmp_path: Path, found: str, sentence: str) -> None:
    write_voc(tmp_path, "2012", "train", {"a": [found]})
    write_voc(tmp_path, "2012", "val", {"b": [DOG]})
    with pytest.raises(UserError, match=sentence) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected VOCdevkit/VOC2007"):
        load(tmp_path)
    write_voc(tmp_path, "2012", "train", {"a": [DOG]})
    write_voc(tmp_path, "2012", "val", {"b": [DOG]})
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    (folder / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of the 1 images listed in the set val .*b\.jpg"):
        load(tmp_path)
    (folder / "Annotations" / "b.xml").unlink()
    with pytest.raises(UserError, match=r"cannot read the annotations .*b\.xml: No such file"):
        load_detection(DetectionRequest("voc", root=str(tmp_path / "VOCdevkit")), tmp_path)
