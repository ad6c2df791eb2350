"""The models: names and shapes of the published checkpoints, sizes, features."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from rkkd_cli.errors import UserError
from rkkd_cli.models import MODELS, Classifier, Features, build_model, count_parameters

Shapes = dict[str, tuple[int, ...]]
EACH_MODEL = pytest.mark.parametrize("name", sorted(MODELS))


def batch_norm(name: str, width: int) -> Shapes:
    vectors: Shapes = {
        f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return {**vectors, f"{name}.num_batches_tracked": ()}


def residual_block(
    name: str, inputs: int, outputs: int, projected: bool, projection: str
) -> Shapes:
    shapes: Shapes = {
        f"{name}.conv1.weight": (outputs, inputs, 3, 3),
        **batch_norm(f"{name}.bn1", outputs),
        f"{name}.conv2.weight": (outputs, outputs, 3, 3),
        **batch_norm(f"{name}.bn2", outputs),
    }
    if projected:
        shapes[f"{name}.{projection}.0.weight"] = (outputs, inputs, 1, 1)
        shapes |= batch_norm(f"{name}.{projection}.1", outputs)
    return shapes


def published_shapes(
    stem: int, stages: tuple[int, ...], blocks: int, projection: str, classifier: str
) -> Shapes:
    """What the published files hold: the first block of a stage projects where shapes change."""
    shapes: Shapes = {"conv1.weight": (stem, 3, 3, 3), **batch_norm("bn1", stem)}
    inputs = stem
    for stage, width in enumerate(stages, start=1):
        for block in range(blocks):
            projected = block == 0 and (stage > 1 or inputs != width)
            name = f"layer{stage}.{block}"
            shapes |= residual_block(name, inputs, width, projected, projection)
            inputs = width
    shapes[f"{classifier}.weight"] = (100, inputs)
    shapes[f"{classifier}.bias"] = (100,)
    return shapes


PUBLISHED = {
    "resnet20": published_shapes(16, (16, 32, 64), 3, "downsample", "fc"),
    "resnet8x4": published_shapes(32, (64, 128, 256), 1, "downsample", "fc"),
    "resnet32x4": published_shapes(32, (64, 128, 256), 5, "downsample", "fc"),
    "ResNet18": published_shapes(64, (64, 128, 256, 512), 2, "shortcut", "linear"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_their_order_are_those_of_the_published_checkpoints(name: str) -> None:
    state = build_model(name, 100).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert shapes == PUBLISHED[name]
    assert list(shapes) == list(PUBLISHED[name])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet8", 83_892),
        ("resnet14", 181_108),
        ("resnet20", 278_324),
        ("resnet32", 472_756),
        ("resnet44", 667_188),
        ("resnet56", 861_620),
        ("resnet110", 1_736_564),
        ("resnet8x4", 1_233_540),
        ("resnet32x4", 7_433_860),
        ("ResNet18", 11_220_132),
        ("ResNet34", 21_328_292),
        ("ResNet50", 23_705_252),
        ("wrn_16_1", 180_916),
        ("wrn_16_2", 703_284),
        ("wrn_40_1", 569_780),
        ("wrn_40_2", 2_255_156),
        ("vgg8", 3_965_028),
        ("vgg11", 9_277_284),
        ("vgg13", 9_462_180),
        ("vgg16", 14_774_436),
        ("vgg19", 20_086_692),
        ("MobileNetV2", 812_836),
        ("MobileNetV2x2", 2_353_060),
        ("ShuffleV1", 949_258),
        ("ShuffleV2", 1_355_528),
    ],
)
def test_parameter_counts_for_100_classes_are_the_published_ones(name: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(name, 100)) == count


def test_frozen_parameters_count_and_buffers_do_not() -> None:
    model = build_model("digits_student", 10, 1)
    before = count_parameters(model)
    model.requires_grad_(False)
    learnt = sum(t.numel() for name, t in model.state_dict().items() if "running" not in name)
    trackers = len(model.state_dict()) - sum(
        "num_batches" not in name for name in model.state_dict()
    )
    assert count_parameters(model) == before == learnt - trackers


@EACH_MODEL
@pytest.mark.parametrize(("classes", "channels"), [(10, 1), (7, 3)])
def test_features_and_logits_have_the_shapes_asked_for(
    name: str, classes: int, channels: int
) -> None:
    with torch.device("meta"):
        model = build_model(name, classes, channels).eval()
        images = torch.empty(3, channels, 32, 32)
    features = model.forward_features(images)
    assert features.logits.shape == model(images).shape == (3, classes)
    final = features.final
    assert final is not None
    assert features.pooled.shape == final.shape[:2]
    assert model.classify(final).shape == (3, classes)
    assert len(features.preacts) == len(features.maps)
    sides = [m.shape[2] for m in features.maps]
    assert sides == sorted(sides, reverse=True)
    assert all(m.ndim == 4 and m.shape[2] == m.shape[3] for m in features.maps)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("digits_teacher", [(32, 32), (64, 16), (128, 16)]),
        ("digits_student", [(4, 16), (8, 16)]),
        ("cnn2", [(16, 16), (32, 8)]),
        ("resnet8", [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("resnet110", [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("resnet8x4", [(32, 32), (64, 32), (128, 16), (256, 8)]),
        ("resnet32x4", [(32, 32), (64, 32), (128, 16), (256, 8)]),
        ("ResNet18", [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]),
    ],
)
def test_maps_of_32_by_32_images_have_these_widths_and_sizes(
    name: str, maps: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        features = build_model(name, 10).forward_features(torch.empty(2, 3, 32, 32))
    assert [(m.shape[1], m.shape[2]) for m in features.maps] == maps


@pytest.mark.parametrize("name", ["digits_teacher", "digits_student", "cnn2", "resnet8x4"])
def test_forward_gives_the_logits_of_forward_features(name: str) -> None:
    model = build_model(name, 5, 1).eval()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.forward_features(images)
        assert torch.equal(model(images), features.logits)
        classifier = list(model.children())[-1]
        assert torch.equal(classifier(features.pooled), features.logits)
        torch.testing.assert_close(features.pooled, features.maps[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["digits_student", "resnet8"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = build_model(name, 4)
    loss = model(torch.randn(4, 3, 16, 16)).square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_same_global_seed_draws_the_same_weights() -> None:
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(build_model("resnet8", 10).state_dict()["conv1.weight"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("resnet200", "resnet20"), ("resnet32x5", "resnet32x4"), ("resnet_18", "ResNet18"),
     ("digit_student", "digits_student"), ("RESNET8X4", "resnet8x4")],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest_and_all_choices(
    wrong: str, nearest: str
) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'") as caught:
        build_model(wrong, 10)
    assert all(name in str(caught.value) for name in MODELS)


@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (-1, 3), (10, 0)])
def test_counts_below_one_are_refused(classes: int, channels: int) -> None:
    with pytest.raises(ValueError, match="at least 1 class and 1 input channel"):
        build_model("resnet8", classes, channels)


@EACH_MODEL
def test_the_classifier_gives_the_logits_of_the_final_map_exactly(name: str) -> None:
    model = build_model(name, 7).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(2, 3, 16, 16))
        assert features.final is not None
        assert torch.equal(model.classify(features.final), features.logits)


@pytest.mark.parametrize("name", ["cnn2", "resnet8", "wrn_16_1", "vgg8", "ShuffleV1"])
def test_maps_are_the_relu_of_what_stands_before_it(name: str) -> None:
    model = build_model(name, 7).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(2, 3, 16, 16))
    last = features.final if name.startswith("wrn") else features.maps[-1]
    torch.testing.assert_close(features.preacts[-1].relu(), last)


ARCHITECTURES = ["cnn2", "resnet8", "ResNet50", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1",
                 "ShuffleV2"]  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_channels_last_changes_nothing_but_the_order_in_memory(name: str) -> None:
    model = build_model(name, 7).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        found = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_two_models_run_side_by_side_in_one_vectorised_call(name: str) -> None:
    models = [build_model(name, 5).eval() for _ in range(2)]
    parameters, buffers = stack_module_state([*models])
    images = torch.randn(2, 2, 3, 16, 16)

    def one(parameters: object, buffers: object, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(models[0], (parameters, buffers), (x,))  # type: ignore[arg-type]
        return logits

    with torch.no_grad():
        found = vmap(one)(parameters, buffers, images)
        expected = torch.stack([model(x) for model, x in zip(models, images, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_pooling_before_the_last_block_of_vgg_begins_with_larger_images() -> None:
    with torch.device("meta"):
        model = build_model("vgg8", 10)
        sizes = {
            side: model.forward_features(torch.empty(2, 3, side, side)).maps[-1].shape[2]
            for side in (32, 64)
        }
    assert sizes == {32: 4, 64: 4}


def test_a_model_without_a_final_map_says_so() -> None:
    class Flat(Classifier):
        def forward_features(self, x: torch.Tensor) -> Features:
            return Features((), x.flatten(1), x.flatten(1))

    with pytest.raises(UserError, match="classifier of Flat reads no feature map"):
        Flat().classify(torch.zeros(1, 2, 3, 3))
