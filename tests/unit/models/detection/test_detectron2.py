"""What differs from torchvision is compared with detectron2's definitions, written as loops."""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared_batches import prepared_batch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection import (
    Detector,
    build_detector,
    load_detector,
    read_detector_file,
)
from rkkd_cli.models.detection.detectron2 import AlignedRoIAlign, as_detectron2

CLASSES = 80
SMALL = {"out_channels": 16, "representation_size": 32}
BGR_MEAN = (103.530, 116.280, 123.675)  # of detectron2's settings
RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ours


def small_detector(classes: int = CLASSES) -> Detector:
    detector = build_detector("fasterrcnn:torchvision:resnet50", classes, SMALL, pretrained=True)
    as_detectron2(detector)
    return detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    detector = small_detector()
    nn.init.normal_(detector.get_submodule("roi_heads.box_predictor.cls_score").weight, std=1.0)  # type: ignore[arg-type]
    return detector.eval()


def detectron2_state(detector: Detector) -> dict[str, np.ndarray[Any, Any]]:
    """Return the detector's weights as detectron2 would have them in a file."""
    arrays = {}
    for name, tensor in detector.state_dict().items():
        array = tensor.numpy()
        if name == "backbone.body.conv1.weight":
            array = array[:, ::-1] / (255 * np.array(RGB_STD[::-1])[None, :, None, None])
        if "cls_score" in name:
            array = np.concatenate([array[1:], array[:1]])
        if "bbox_pred" in name and name.startswith("roi"):
            array = array[4:]
        arrays[their_name(name)] = array.astype(np.float32)
    arrays["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4), np.float32)
    return arrays


def their_name(name: str) -> str:
    name = re.sub(r"^backbone\.body\.(conv1|bn1)", r"backbone.bottom_up.stem.\1", name)
    name = re.sub(
        r"^backbone\.body\.layer(\d)",
        lambda found: f"backbone.bottom_up.res{int(found[1]) + 1}",
        name,
    )
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    for block, layer in (("inner_blocks", "lateral"), ("layer_blocks", "output")):
        name = re.sub(
            rf"fpn\.{block}\.(\d)\.0",
            lambda found, layer=layer: f"fpn_{layer}{int(found[1]) + 2}",  # type: ignore[misc]
            name,
        )
    name = name.replace("rpn.head.conv.0.0", "proposal_generator.rpn_head.conv")
    name = name.replace("rpn.head.cls_logits", "proposal_generator.rpn_head.objectness_logits")
    name = name.replace("rpn.head.bbox_pred", "proposal_generator.rpn_head.anchor_deltas")
    return name.replace("box_head.fc6", "box_head.fc1").replace("box_head.fc7", "box_head.fc2")


@pytest.fixture(scope="module")
def published(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detectron2") / "model_final_f6e8b1.pkl"
    content = {"model": detectron2_state(detector), "__author__": "Detectron2 Model Zoo"}
    path.write_bytes(pickle.dumps(content))
    return path


def test_a_published_file_gives_the_same_detections(detector: Detector, published: Path) -> None:
    names = detectron2_state(detector)
    assert "backbone.bottom_up.stem.conv1.norm.running_var" in names
    assert "backbone.bottom_up.res3.0.shortcut.norm.bias" in names
    assert "backbone.bottom_up.res5.2.conv3.weight" in names
    assert "backbone.fpn_lateral2.weight" in names
    loaded = small_detector().eval()
    load_detector(loaded, read_detector_file(published), "")
    batch = prepared_batch(((64, 96),) * 2, torch.float32)
    found = [
        one.detect(one.feature_maps(batch.images), batch.images, batch.sizes)
        for one in (loaded, detector)
    ]
    for ours, expected in zip(*found, strict=True):
        assert len(expected.labels) > 10
        torch.testing.assert_close(ours.boxes, expected.boxes, rtol=0, atol=1e-2)
        torch.testing.assert_close(ours.scores, expected.scores, rtol=0, atol=1e-4)


def test_its_categories_are_found_by_cocos_numbers(detector: Detector, published: Path) -> None:
    three = small_detector(3)
    load_detector(three, read_detector_file(published), "", [1, 18, 90])
    score = "roi_heads.box_predictor.cls_score.bias"
    assert torch.equal(three.state_dict()[score], detector.state_dict()[score][[0, 1, 17, 80]])


def test_the_stem_takes_images_as_ours_are_normalised(published: Path) -> None:
    loaded: Any = small_detector()
    weights = read_detector_file(published)
    load_detector(loaded, weights, "")
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).double()  # RGB
    ours = (pixels / 255 - column(RGB_MEAN)) / column(RGB_STD)
    theirs = pixels.flip(1) - column(BGR_MEAN)
    stem = weights.tensors["backbone.bottom_up.stem.conv1.weight"].double()
    expected = nn.functional.conv2d(theirs, stem, stride=2, padding=3)
    torch.testing.assert_close(
        loaded.backbone.body.conv1.double()(ours), expected, rtol=1e-5, atol=1e-4
    )


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None]


def test_bottlenecks_stride_in_their_first_convolution(detector: Any) -> None:
    for layer, stride in (("layer1", 1), ("layer2", 2), ("layer3", 2), ("layer4", 2)):
        block = detector.backbone.body[layer][0]
        assert block.conv1.stride == (stride, stride)
        assert block.conv2.stride == (1, 1)
    assert detector.backbone.strides == (4, 8, 16, 32, 64)


def test_anchors_are_not_rounded_and_their_places_have_nominal_strides(detector: Any) -> None:
    images = torch.zeros(1, 3, 96, 160)  # 96 is no multiple of 64: the last map has two rows
    maps = list(detector.feature_maps(images))
    found = detector.rpn.anchor_generator(ImageList(images, [(96, 160)]), maps)[0]
    expected = []
    for level, (size, stride) in enumerate(((32, 4), (64, 8), (128, 16), (256, 32), (512, 64))):
        for row in range(maps[level].shape[2]):
            for place in range(maps[level].shape[3]):
                for ratio in (0.5, 1.0, 2.0):
                    width = math.sqrt(size**2 / ratio)
                    height = ratio * width
                    x, y = place * stride, row * stride
                    expected.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_boxes_are_pooled_aligned_from_the_map_of_their_size() -> None:
    strides = (4, 8, 16, 32)
    maps = {str(n): torch.randn(2, 3, 512 // s, 512 // s).double() for n, s in enumerate(strides)}
    boxes = [
        torch.tensor([[3.0, 5, 40, 80], [0, 0, 112, 112], [1, 2, 300, 200]]).double(),
        torch.tensor([[0.0, 0, 512, 500], [10, 10, 234, 234]]).double(),
    ]
    pool = AlignedRoIAlign(list(maps), 7, strides)
    found = pool(maps, boxes, [(512, 512)] * 2)
    row = 0
    for image, of_image in enumerate(boxes):
        for box in of_image:
            side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            level = min(max(math.floor(4 + math.log2(side / 224 + 1e-8)), 2), 5) - 2
            roi = torch.cat([torch.tensor([float(image)]).double(), box])[None]
            expected = roi_align(
                maps[str(level)], roi, 7, 1 / strides[level], sampling_ratio=0, aligned=True
            )
            assert torch.equal(found[row : row + 1], expected)
            row += 1


def test_it_is_built_by_name_with_cocos_columns() -> None:
    with torch.device("meta"):
        detector: Any = build_detector("detectron2:faster_rcnn_R_101_FPN", CLASSES, pretrained=True)
    assert len(detector.backbone.body["layer3"]) == 23
    assert detector.roi_heads.box_predictor.cls_score.out_features == CLASSES + 1
    assert isinstance(detector.roi_heads.box_roi_pool, AlignedRoIAlign)


def test_names_of_another_architecture_are_refused(tmp_path: Path) -> None:
    arrays = {
        "backbone.bottom_up.stem.conv1.weight": np.zeros((64, 3, 7, 7), np.float32),
        "roi_heads.mask_head.deconv.weight": np.zeros(3, np.float32),
    }
    path = tmp_path / "mask.pkl"
    path.write_bytes(pickle.dumps({"model": arrays}))
    with pytest.raises(UserError, match=r"'roi_heads\.mask_head\.deconv\.weight' has no place"):
        load_detector(small_detector(), read_detector_file(path), "")


def test_a_network_that_computes_otherwise_refuses_its_files(published: Path) -> None:
    torchvisions = build_detector("fasterrcnn:torchvision:resnet50", CLASSES, SMALL)
    with pytest.raises(UserError, match="name the detector detectron2:faster_rcnn_R_50_FPN"):
        load_detector(torchvisions, read_detector_file(published), "")
