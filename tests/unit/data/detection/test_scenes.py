"""Scenes: boxes where the images are, each scene a function of its seed and index."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import write_folder

from rkkd_cli.data.detection.dataset import DetectionRequest
from rkkd_cli.data.detection.reading import inspect_detection, load_detection
from rkkd_cli.data.detection.scenes import draw_scene, make_scenes
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.errors import UserError

# One image of each grey level: a class is where its level is.
LEVELS = LabelledImages(
    np.broadcast_to(np.arange(200, 210, dtype=np.uint8)[:, None, None, None], (10, 1, 8, 8)).copy(),
    np.arange(10),
)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**62))
def test_a_box_has_the_image_of_its_label_on_noise(seed: int) -> None:
    scene = draw_scene(LEVELS, np.random.default_rng(seed))
    height, width = scene.pixels.shape[:2]
    assert 64 <= min(height, width) <= max(height, width) <= 128
    assert 1 <= len(scene.boxes) == len(scene.labels) <= 5
    shown = np.zeros((height, width), np.bool_)
    for (x0, y0, x1, y1), label in zip(scene.boxes, scene.labels, strict=True):
        assert 24 <= x1 - x0 == y1 - y0 <= 64
        assert min(x0, y0) >= 0
        inside = (scene.pixels[y0:y1, x0:x1] == 200 + label).all(2)
        assert inside.mean() >= 0.6  # others hide at most a tenth each
        shown[y0:y1, x0:x1] = True
    outside = scene.pixels[~shown]
    if len(outside) > 500:
        assert abs(outside.mean() - 127.5) < 15
        assert len(np.unique(outside)) > 100


def test_a_scene_is_a_function_of_split_seed_and_index() -> None:
    few, more = make_scenes(LEVELS, "train", 3, 4), make_scenes(LEVELS, "train", 3, 9)
    assert few.fingerprint == more.take(np.arange(4)).fingerprint
    others = {
        make_scenes(LEVELS, split, seed, 4).fingerprint
        for split, seed in (("test", 3), ("train", 4))
    }
    assert few.fingerprint not in others
    assert len({image.tobytes() for image in more.images}) == 9
    last = more.take(np.array([8, 2]))
    assert np.array_equal(last.read(1), more.read(2))
    assert last.objects(0).boxes.tolist() == more.objects(8).boxes.tolist()
    assert last.sizes.tolist() == [list(more.read(index).shape[:2]) for index in (8, 2)]


def test_digits_scenes_need_nothing_but_their_name(tmp_path: Path) -> None:
    request = DetectionRequest("digits_scenes", limit_train=30, limit_test=8, val_share=0.2)
    info, data = inspect_detection(request), load_detection(request, tmp_path)
    assert data.val is not None
    assert (info.train_images, info.val_images, info.test_images) == (24, 6, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 8)
    assert info.classes == data.classes == tuple("0123456789")
    assert info.category_ids == data.category_ids == tuple(range(10))
    assert data.test_size is None
    assert data.fingerprint == load_detection(request, tmp_path).fingerprint
    assert not list(tmp_path.iterdir())


def test_no_image_stands_in_scenes_of_two_splits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, set[bytes]] = {}

    def note(source: LabelledImages, split: str, seed: int, count: int) -> object:
        seen[split] = {image.tobytes() for image in source.images}
        return make_scenes(source, split, seed, count)

    monkeypatch.setattr("rkkd_cli.data.detection.scene_sets.make_scenes", note)
    load_detection(
        DetectionRequest("digits_scenes", limit_train=9, limit_test=3, val_share=0.4), tmp_path
    )
    assert seen.keys() == {"train", "test", "val"}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    assert not seen["val"] & seen["test"]


def test_cifar_scenes_of_an_image_folder_have_its_classes(tmp_path: Path) -> None:
    root = str(write_folder(tmp_path / "cifar", classes=3, train=4, test=2, size=32))
    request = DetectionRequest("cifar_scenes", root=root, limit_train=5, limit_test=2)
    data = load_detection(request, tmp_path)
    assert data.classes == ("class000", "class001", "class002")
    assert data.flip
    assert inspect_detection(request).num_classes == 3


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (DetectionRequest("digit_scenes"), "did you mean 'digits_scenes'"),
        (DetectionRequest("digits_scenes", root="/tmp"), "no --data-root"),
        (DetectionRequest("digits_scenes", test_share=0.1), "test_share is for folders"),
        (DetectionRequest("digits_scenes", limit_train=4, val_share=0.1), "would hold out 0 of 4"),
        (DetectionRequest("digits_scenes", val_share=0.001), "would hold out 1 of 1397"),
        (DetectionRequest("coco"), "needs --data-root"),
    ],
)
def test_requests_that_do_not_fit(request_: DetectionRequest, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        inspect_detection(request_)
