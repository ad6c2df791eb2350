"""``package.module:name``: a model of the user's own code."""

import torch
from torch import nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.external.feature_hooks import FeaturePlan, HookedModel
from rkkd_cli.models.external.feature_plan import make_plan, trace
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.plugins import check_signature, load_plugin

DEFAULT_SIZE = (32, 32)


def check_user_model(spec: str) -> None:
    """Raise UserError unless ``spec`` names a callable that takes (num_classes, in_channels)."""
    check_signature("model", spec, load_plugin("model", spec), 10, 3)


def user_model(
    spec: str, num_classes: int, in_channels: int, image_size: tuple[int, int] | None
) -> Classifier:
    """Return the model that the user's ``name(num_classes, in_channels)`` builds.

    A Classifier is returned unchanged. Another module gets forward hooks on the features that a dry
    run on images of ``image_size`` (32×32 without it) finds. It has a ``final`` map only if
    classifying that map gives the module's logits.

    Raises UserError if the name cannot be imported or called, or returns no ``nn.Module`` or one
    whose output is not (B, num_classes).
    """
    function = load_plugin("model", spec)
    if isinstance(function, nn.Module):
        raise UserError(f"model {spec} is a module itself; name a function or class that makes one")
    check_signature("model", spec, function, num_classes, in_channels)
    model = function(num_classes, in_channels)
    if not isinstance(model, nn.Module):
        raise UserError(f"model {spec} returned {type(model).__name__}, not an nn.Module")
    size = image_size or DEFAULT_SIZE
    shape = (2, in_channels, *size)
    try:
        traced = trace(model, shape)
    except Exception as error:  # a user's forward may raise anything
        reason = " ".join(str(error).split())
        shown = "×".join(str(side) for side in shape)
        raise UserError(f"model {spec} fails on images of {shown}: {reason}") from error
    if traced.output_shape != (2, num_classes):
        actual = traced.output_shape or "no tensor"
        raise UserError(f"model {spec} must return logits (B, {num_classes}), not {actual}")
    if isinstance(model, Classifier):
        return model
    plan = make_plan(model, traced, size)
    if plan is None:
        raise UserError(f"model {spec} has no linear layer or convolution to read features before")
    return HookedModel(model, plan=_verify_final(plan, model, shape))


def _verify_final(plan: FeaturePlan, model: nn.Module, shape: tuple[int, ...]) -> FeaturePlan:
    """Return the plan without its final map, unless classifying that map gives the model's logits.

    Only values tell average pooling from max pooling, or from an activation called as a function.
    On the meta device, which has none, the final map is dropped.
    """
    parameter = next(model.parameters())
    without_final = plan._replace(final=None)
    if plan.final is None or parameter.is_meta:
        return without_final
    generator = torch.Generator().manual_seed(0)  # the global one draws the models' weights
    images = torch.randn(shape, generator=generator, device="cpu").to(parameter)
    hooked = HookedModel(model, plan=plan)
    with in_eval_mode(model), torch.no_grad():
        features = hooked.forward_features(images)
        assert features.final is not None
        try:
            logits = hooked.classify(features.final)
        except RuntimeError:
            return without_final
    same = logits.shape == features.logits.shape and torch.allclose(
        logits, features.logits, rtol=1e-4, atol=1e-5
    )
    return plan if same else without_final
