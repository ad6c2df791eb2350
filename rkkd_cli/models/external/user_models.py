"""``package.module:name`` or ``file.py:name``: a model of the user's own code."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.models.external.adapt import build_on_default_device
from rkkd_cli.models.external.feature_hooks import FeaturePlan, HookedModel
from rkkd_cli.models.external.feature_plan import make_plan, trace
from rkkd_cli.models.external.options import CHANNELS, CLASSES, NO_OPTIONS
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.plugins import load_plugin

DEFAULT_SIZE = (32, 32)

T = TypeVar("T")


def check_user_model(spec: str, options: Mapping[str, Any] = NO_OPTIONS) -> None:
    """Raise UserError unless ``spec`` names a callable that can be called by names."""
    bind_by_name(spec, load_plugin("model", spec), 10, 3, options)


def user_model(
    spec: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Classifier:
    """Return the model that the user's function or class builds.

    It is called by the names of its parameters: see :func:`bind_by_name`. A Classifier is returned
    unchanged. Another module gets forward hooks on the features that a dry run on images of
    ``image_size`` (32×32 without it) finds. It has a ``final`` map only if classifying that map
    gives the module's logits.

    Raises UserError if the name cannot be imported or called, or returns no ``nn.Module`` or one
    whose output is not (B, num_classes).
    """
    function = load_plugin("model", spec)
    if isinstance(function, nn.Module):
        raise UserError(f"model {spec} is a module itself; name a function or class that makes one")
    call = bind_by_name(spec, function, num_classes, in_channels, options)
    try:
        model = build_on_default_device(call)
    except Exception as error:  # a user's code may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        called = _written_call(spec, call.keywords)
        raise UserError(
            f"model {spec} fails when it is called as {called}: {type(error).__name__}: {reason}"
        ) from error
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


def bind_by_name(
    spec: str,
    function: Callable[..., Any],
    num_classes: int,
    in_channels: int,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> "partial[Any]":
    """Return the call of a user's function with the numbers that its parameters ask for by name.

    A parameter for the number of classes is required (:data:`CLASSES`), one for that of channels is
    not (:data:`CHANNELS`): a network may be for colour images only. All others keep their defaults,
    or are among the ``options``.

    Raises UserError for an option that is no parameter, and for a function that has no parameter
    for the classes or needs another; its notes are a wrapper to copy.
    """
    parameters: Mapping[str, inspect.Parameter]
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a function in C without a signature
        parameters = {}
    _check_options(spec, parameters, options)
    values = {**options, **_by_name(parameters, num_classes, in_channels)}
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    unknown = [name for name in needed if name not in values]
    if not unknown and not values.keys().isdisjoint(CLASSES):
        return partial(function, **values)
    problem = (
        f"it needs a value for {', '.join(unknown)}, which student.options or teacher.options may "
        "give"
        if unknown
        else "it has no parameter num_classes"
    )
    written = _by_name(parameters, "num_classes", "in_channels")
    module, _, name = spec.rpartition(":")
    call = _written_call(spec, {n: written.get(n, "...") for n in needed})
    error = UserError(
        f"model {spec} cannot be called by the names of its parameters: {problem}; write a "
        f"function that calls it, such as this one, and name that, {module}:make_{name}"
    )
    error.add_note(f"    def make_{name}(num_classes, in_channels):")
    error.add_note(f"        return {call}")
    raise error


def _check_options(
    spec: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    """Raise UserError for an option that the function does not take."""
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = next((option for option in options if option not in parameters), None)
    if unknown is not None and not takes_any:
        raise unknown_name(f"option of model {spec}", unknown, parameters)


def _by_name(
    parameters: Mapping[str, inspect.Parameter], num_classes: T, in_channels: T
) -> dict[str, T]:
    """Return the two values by the names of the parameters that they are for."""
    values = {}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for names, value in ((CLASSES, num_classes), (CHANNELS, in_channels)):
        name = next((name for name in names if name in parameters), None)
        if name is not None or takes_any:
            values[name or names[0]] = value
    return values


def _written_call(spec: str, arguments: Mapping[str, object]) -> str:
    name = spec.rpartition(":")[2]
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
