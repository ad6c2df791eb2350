"""A frozen model with fewer operations: each BatchNorm folded into the convolution before it."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rkkd_cli.models.features import Classifier, Features

# How far a folded model's outputs may lie from the model's own, as a share of their largest value.
TOLERANCE = 1e-4


@torch.no_grad()
def fold(model: Classifier, image_shape: tuple[int, int, int]) -> Classifier:
    """Return a model with the same features and logits, whose BatchNorms are folded away.

    A BatchNorm in eval mode is an affine map of each channel, y = γ·(x − μ)/√(σ² + ε) + β. So it
    can be made part of the weights and the bias of the convolution whose output it reads. The
    result is for inference only, and the model itself stays as it is. A model whose outputs would
    change by more than rounding, on two images of noise, is returned unchanged: one that reads the
    output of a convolution elsewhere too, say.

    Args:
        model: in eval mode.
        image_shape: channels, height and width of its images.

    """
    images = _noise(model, image_shape)
    pairs, own = _adjacent(model, images)
    if not pairs:
        return model
    folded = copy.deepcopy(model)
    for norm, convolution in pairs.items():
        before, after = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(after, nn.BatchNorm2d)
        folded.set_submodule(convolution, fuse_conv_bn_eval(before, after))
        folded.set_submodule(norm, nn.Identity())
    return folded if _alike(own, folded.forward_features(images)) else model


def _adjacent(model: Classifier, images: Tensor) -> tuple[Mapping[str, str], Features]:
    """Return the convolution whose output each BatchNorm reads, by name, and the outputs.

    Only those that are called once in a pass.
    """
    convolutions: dict[str, list[Tensor]] = {}
    norms: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(_keep_output(convolutions, name)))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            handles.append(module.register_forward_hook(_keep_input(norms, name)))
    try:
        outputs = model.forward_features(images)
    finally:
        for handle in handles:
            handle.remove()
    made_by = {id(calls[0]): name for name, calls in convolutions.items() if len(calls) == 1}
    read = {name: id(calls[0]) for name, calls in norms.items() if len(calls) == 1}
    return {norm: made_by[one] for norm, one in read.items() if one in made_by}, outputs


def _keep_output(kept: dict[str, list[Tensor]], name: str) -> Any:
    return lambda _module, _inputs, output: kept.setdefault(name, []).append(output)


def _keep_input(kept: dict[str, list[Tensor]], name: str) -> Any:
    return lambda _module, inputs, _output: kept.setdefault(name, []).append(inputs[0])


def _noise(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Return two images, always the same ones, where the model is and in its precision."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters())).to(memory_format=torch.channels_last)


def _alike(own: Features, other: Features) -> bool:
    return all(
        bool((one - two).abs().max() <= TOLERANCE * one.abs().max().clamp(min=1e-6))
        for one, two in zip(_tensors(own), _tensors(other), strict=True)
    )


def _tensors(features: Features) -> Iterator[Tensor]:
    yield from (*features.maps, *features.preacts, features.pooled, features.logits)
    if features.final is not None:
        yield features.final
