"""Feature shapes without computing, and the choice of stages."""

import pytest
import torch

from rkkd_cli.models import MODELS, Classifier, Features, build_model, feature_shapes
from rkkd_cli.models.stages import evenly_spaced, stage_ends


@pytest.mark.parametrize("name", sorted(MODELS))
def test_shapes_are_those_of_a_real_pass(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 10, 3)
        features = model.eval().forward_features(torch.empty(2, 3, 32, 32))
    shapes = feature_shapes(model, 3, (32, 32))
    assert [tuple(shape) for shape in shapes.maps] == [tuple(m.shape[1:]) for m in features.maps]
    assert shapes.pooled == features.pooled.shape[1]
    assert features.final is not None
    assert shapes.final == features.final.shape[1:]


def test_a_model_stays_as_it_is() -> None:
    model = build_model("resnet8", 10).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    feature_shapes(model, 3, (16, 24))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_the_meta_device_cannot_do_is_computed() -> None:
    class Asks(Classifier):
        def forward_features(self, x: torch.Tensor) -> Features:
            assert x.sum().item() == 0  # no meta tensor has a value
            return Features((x,), x.mean(dim=(2, 3)), x.mean(dim=(2, 3)))

    shapes = feature_shapes(Asks(), 3, (4, 6))
    assert shapes.maps == (torch.Size((3, 4, 6)),)
    assert shapes.pooled == 3
    assert shapes.final is None


@pytest.mark.parametrize(
    ("sides", "image", "taken"),
    [
        ([112, 112, 56, 28, 14, 7], 224, [1, 2, 3, 4, 5]),
        ([149, 147, 147, 73, 71, 35, 17, 8], 299, [2, 4, 5, 6, 7]),
        ([32, 16, 32, 16], 32, [0, 3]),
        ([14] * 12, 224, [11]),
        ([8], 8, [0]),
        ([], 8, []),
    ],
)
def test_the_last_map_of_every_stage(sides: list[int], image: int, taken: list[int]) -> None:
    assert stage_ends([(side, side) for side in sides], (image, image)) == taken


@pytest.mark.parametrize(
    ("count", "taken"), [(12, [2, 5, 8, 11]), (4, [0, 1, 2, 3]), (3, [0, 1, 2]), (6, [1, 2, 4, 5])]
)
def test_evenly_spaced(count: int, taken: list[int]) -> None:
    assert evenly_spaced(count) == taken
