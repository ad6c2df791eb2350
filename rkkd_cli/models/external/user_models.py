"""``package.module:name``: a user's own model."""

import torch
from torch import nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.external.feature_hooks import Plan, Tapped
from rkkd_cli.models.external.feature_plan import make_plan, trace
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.plugins import check_signature, load_plugin

USUAL_SIZE = (32, 32)


def check_own_name(spec: str) -> None:
    """Raise UserError unless ``spec`` names something that takes (num_classes, in_channels)."""
    check_signature("model", spec, load_plugin("model", spec), 10, 3)


def own_model(
    spec: str, num_classes: int, in_channels: int, image_size: tuple[int, int] | None
) -> Classifier:
    """Return what the user's ``name(num_classes, in_channels)`` builds.

    A Classifier is taken as it is. Of another module the features are tapped where a dry run on
    images of ``image_size`` (32×32 without it) finds them; ``final`` only where a comparison of
    logits confirms it.

    Raises UserError for what cannot be imported or called, for what is no ``nn.Module``, and for
    a module whose output is not (B, num_classes).
    """
    function = load_plugin("model", spec)
    if isinstance(function, nn.Module):
        raise UserError(f"model {spec} is a module itself; name a function or class that makes one")
    check_signature("model", spec, function, num_classes, in_channels)
    model = function(num_classes, in_channels)
    if not isinstance(model, nn.Module):
        raise UserError(f"model {spec} returned {type(model).__name__}, not an nn.Module")
    size = image_size or USUAL_SIZE
    shape = (2, in_channels, *size)
    try:
        traced = trace(model, shape)
    except Exception as error:  # whatever a user's forward may raise
        reason = " ".join(str(error).split())
        shown = "×".join(str(side) for side in shape)
        raise UserError(f"model {spec} fails on images of {shown}: {reason}") from error
    if traced.output != (2, num_classes):
        found = traced.output or "no tensor"
        raise UserError(f"model {spec} must return logits (B, {num_classes}), not {found}")
    if isinstance(model, Classifier):
        return model
    plan = make_plan(model, traced, size)
    if plan is None:
        raise UserError(f"model {spec} has no linear layer or convolution to read features before")
    return Tapped(model, _confirmed(plan, model, shape))


def _confirmed(plan: Plan, model: nn.Module, shape: tuple[int, ...]) -> Plan:
    """Leave the final map out of the plan where classifying it gives other logits than the model.

    Nothing but numbers tells an average from a maximum or an activation written as a function.
    On the meta device, where there are none, it is left out.
    """
    parameter = next(model.parameters())
    if plan.final is None or parameter.is_meta:
        return plan._replace(final=None)
    draws = torch.Generator().manual_seed(0)  # of its own: a model's weights hang on the global one
    images = torch.randn(shape, generator=draws, device="cpu").to(parameter)
    tapped = Tapped(model, plan)
    with in_eval_mode(model), torch.no_grad():
        features = tapped.forward_features(images)
        assert features.final is not None
        try:
            again = tapped.classify(features.final)
        except RuntimeError:
            return plan._replace(final=None)
    same = again.shape == features.logits.shape and torch.allclose(
        again, features.logits, rtol=1e-4, atol=1e-5
    )
    return plan if same else plan._replace(final=None)
