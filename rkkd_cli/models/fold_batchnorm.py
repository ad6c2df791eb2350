"""Fold each BatchNorm of a frozen model into the convolution before it."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rkkd_cli.models.features import Classifier, Features

# The largest allowed deviation of a folded model's outputs, as a fraction of their largest value.
TOLERANCE = 1e-4


@torch.no_grad()
def fold(model: Classifier, image_shape: tuple[int, int, int]) -> Classifier:
    """Return a copy of the model with the same features and logits, and fewer BatchNorms.

    A BatchNorm in eval mode is an affine map of each channel, y = γ·(x − μ)/√(σ² + ε) + β. It can
    become part of the weights and bias of the convolution whose output it normalises. The copy is
    for inference only; the model itself does not change. If the outputs for two images of noise
    differ by more than rounding, the model itself is returned: for example if it also uses the
    convolution's output elsewhere.

    Args:
        model: in eval mode.
        image_shape: channels, height and width of its images.

    """
    images = _noise(model, image_shape)
    conv_names, expected = _convolutions_before_norms(model, images)
    if not conv_names:
        return model
    folded = copy.deepcopy(model)
    for norm_name, conv_name in conv_names.items():
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        folded.set_submodule(norm_name, nn.Identity())
    return folded if _are_close(expected, folded.forward_features(images)) else model


def _convolutions_before_norms(
    model: Classifier, images: Tensor
) -> tuple[Mapping[str, str], Features]:
    """Map each BatchNorm's name to the convolution whose output it normalises; return the features.

    Only modules that a forward pass calls exactly once.
    """
    names = {module: name for name, module in model.named_modules()}
    conv_outputs: defaultdict[nn.Module, list[Tensor]] = defaultdict(list)
    norm_inputs: defaultdict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep_output(conv: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        conv_outputs[conv].append(output)

    def keep_input(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norm_inputs[norm].append(inputs[0])

    with ExitStack() as hooks:
        for module in names:
            if type(module) is nn.Conv2d:
                hooks.enter_context(module.register_forward_hook(keep_output))
            elif type(module) is nn.BatchNorm2d and module.track_running_stats:
                hooks.enter_context(module.register_forward_pre_hook(keep_input))
        features = model.forward_features(images)
    conv_of = {id(calls[0]): names[conv] for conv, calls in conv_outputs.items() if len(calls) == 1}
    conv_names = {
        names[norm]: conv_of[id(calls[0])]
        for norm, calls in norm_inputs.items()
        if len(calls) == 1 and id(calls[0]) in conv_of
    }
    return conv_names, features


def _noise(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Return two images, always the same, on the model's device and in its precision."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters())).to(memory_format=torch.channels_last)


def _are_close(expected: Features, actual: Features) -> bool:
    return all(
        bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp(min=1e-6))
        for a, b in zip(_tensors(expected), _tensors(actual), strict=True)
    )


def _tensors(features: Features) -> list[Tensor]:
    tensors = (*features.maps, *features.preacts, features.pooled, features.logits, features.final)
    return [tensor for tensor in tensors if tensor is not None]
