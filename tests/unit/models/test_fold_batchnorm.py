"""A folded model says what the model says, and one that cannot be folded stays as it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rkkd_cli.models import MODELS, Classifier, Features, build_model
from rkkd_cli.models.fold_batchnorm import fold

GREY = ("digits_teacher", "digits_student")


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]


def trained(name: str, channels: int, side: int) -> Classifier:
    """Return a model in float64 whose BatchNorms are no identities."""
    torch.manual_seed(0)
    model = build_model(name, 10, channels, (side, side)).double().eval().requires_grad_(False)
    for one in norms(model):
        assert one.running_mean is not None
        assert one.running_var is not None
        one.running_mean.normal_(0, 0.3)
        one.running_var.uniform_(0.5, 2)
        one.weight.uniform_(-1.5, 1.5)
        one.bias.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("name", [*MODELS, "torchvision:resnet18", "torchvision:densenet121"])
def test_all_features_are_those_of_the_model(name: str) -> None:
    channels, side = (1, 8) if name in GREY else (3, 32 if ":" in name else 16)
    model = trained(name, channels, side)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold(model, (channels, side, side))
    images = torch.randn(2, channels, side, side, dtype=torch.float64)
    for own, other in zip(flat(model, images), flat(folded, images), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["resnet32x4", "vgg13", "ShuffleV2", "torchvision:resnet18"])
def test_no_batchnorm_is_left_where_each_follows_a_convolution(name: str) -> None:
    model = trained(name, 3, 32)
    assert norms(model)
    assert norms(fold(model, (3, 32, 32))) == []


def flat(model: Classifier, images: Tensor) -> list[Tensor]:
    features = model.forward_features(images)
    some = [*features.maps, *features.preacts, features.pooled, features.logits, model(images)]
    return some if features.final is None else [*some, features.final]


class Odd(Classifier):
    """One convolution and one BatchNorm, used in a way that forbids folding."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward_features(self, x: Tensor) -> Features:
        out = self.conv(x)
        final = {
            "read twice": lambda: self.norm(out) + out,
            "called twice": lambda: self.norm(self.norm(out)),
            "something between": lambda: self.norm(out.relu()),
        }[self.kind]()
        pooled = final.mean(dim=(2, 3))
        return Features((final,), pooled, self.fc(pooled))


@pytest.mark.parametrize("kind", ["read twice", "called twice", "something between"])
def test_a_model_that_folding_would_change_is_returned_unchanged(kind: str) -> None:
    torch.manual_seed(0)
    model = Odd(kind).eval()
    model.norm.running_mean = torch.randn(4)
    assert fold(model, (1, 8, 8)) is model


@given(
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_any_convolution_takes_its_batchnorm(
    groups: int, bias: bool, affine: bool, seed: int
) -> None:
    class One(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, groups=groups, bias=bias)
            self.norm = nn.BatchNorm2d(8, affine=affine)

        def forward_features(self, x: Tensor) -> Features:
            final = self.norm(self.conv(x))
            pooled = final.mean(dim=(2, 3))
            return Features((final,), pooled, pooled)

    torch.manual_seed(seed)
    model = One().double()
    with torch.no_grad():
        for _ in range(3):  # the running statistics move
            model(2 + 3 * torch.randn(8, 4, 6, 6, dtype=torch.float64))
    model.eval()
    folded = fold(model, (4, 6, 6))
    images = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    assert norms(folded) == []
    torch.testing.assert_close(folded(images), model(images), rtol=1e-9, atol=1e-9)
