"""Feature shapes without computing."""

import pytest
import torch

from rkkd_cli.models import MODELS, Classifier, Features, build_model, feature_shapes


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
