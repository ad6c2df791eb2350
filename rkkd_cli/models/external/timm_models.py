"""``timm:NAME``: timm's classifiers with random weights, under timm's own parameter names.

NAME may have timm's tag behind a dot, or be ``hf-hub:OWNER/NAME``. Needs the package timm. Feature
maps come from timm's ``forward_intermediates``, which also turns tokens into maps. The few models
without it get forward hooks, as any other network (:mod:`rkkd_cli.models.external.feature_hooks`).
"""

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor, nn

from rkkd_cli.errors import UserError, unknown_among_many
from rkkd_cli.installation import install_command
from rkkd_cli.models.external.adapt import build_on_default_device, check_size
from rkkd_cli.models.external.downloads import HUB_CONFIG, HUB_PREFIX, from_hub
from rkkd_cli.models.external.feature_hooks import HookedModel, as_pooled, capture
from rkkd_cli.models.external.feature_plan import evenly_spaced, make_plan, stage_ends, trace
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.models.external.wrapper import WrappedModel
from rkkd_cli.models.features import Classifier, Features
from rkkd_cli.models.shapes import dry_run

PREFIX = "timm:"
AVERAGE_POOLS = ("AdaptiveAvgPool2d", "FastAdaptiveAvgPool")  # torch's, and timm's own
PASSIVE = (nn.Identity, nn.Dropout)


class TimmModel(WrappedModel):
    """A model of timm with ``forward_intermediates`` and ``forward_head``. No ``preacts``.

    ``map_indices`` are the indices of the intermediates that are feature maps. ``pools_last_map``:
    the head begins with average pooling of the last map.
    """

    library: Any
    map_indices: list[int]
    pools_last_map: bool

    def forward_features(self, x: Tensor) -> Features:
        """Return one map per stage, the head's input, the logits and the final map."""
        last, maps = self.library.forward_intermediates(
            x, indices=self.map_indices, output_fmt="NCHW"
        )
        head = head_name(self.library)
        with capture(self.library, set(), {head}) as (_, inputs):
            logits: Tensor = self.library.forward_head(last)
        final = self._swap_layout(last) if self.pools_last_map else None
        return Features(tuple(maps), as_pooled(inputs[head]), logits, (), final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a final map (B, D, H, W). Raises UserError if there is none."""
        if not self.pools_last_map:
            return super().classify(final)
        logits: Tensor = self.library.forward_head(self._swap_layout(final, back=True))
        return logits

    def _swap_layout(self, final: Tensor, back: bool = False) -> Tensor:
        """Convert a map from the layout of timm's model to (B, D, H, W), or ``back``."""
        if str(getattr(self.library, "output_fmt", "NCHW")).rsplit(".", 1)[-1] != "NHWC":
            return final
        return final.permute(0, 2, 3, 1) if back else final.permute(0, 3, 1, 2)


def timm_names() -> list[str]:
    """Return the names of timm's models. Raises UserError if timm is not installed."""
    return list(_timm().list_models())


def check_timm_name(name: str) -> None:
    """Raise UserError unless timm has the model ``name``; a tag after a dot is allowed.

    Raises RunError if the configuration of one of the Hugging Face hub cannot be downloaded.
    """
    if name.startswith(HUB_PREFIX):
        timm_source(name)
        return
    names = timm_names()
    if name.split(".")[0] not in names:
        raise unknown_among_many("timm model", name, names, "rkkd ls models timm")


def timm_model(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Classifier:
    """Return a model of timm with random weights, initialised by timm.

    ``image_size`` (height, width) is checked for every model. Models with positional embeddings of
    a fixed size are built for it (without it for their default size). State dicts are timm's.

    Raises UserError for an unknown name or a size that the model cannot take, and if timm is not
    installed.
    """
    model = timm_network(name, num_classes, in_channels, image_size, options)
    settings = timm_source(name).settings
    fixed_size, default_size = bool(settings.fixed_input_size), settings.input_size[1:]
    if image_size is not None:
        _check_patches(name, model, image_size)
        check_size(PREFIX + name, model, in_channels, image_size, search=not fixed_size)
    return _wrap(model, in_channels, image_size if fixed_size and image_size else default_size)


def timm_fixed_size(name: str) -> tuple[int, int] | None:
    """Return the image size (height, width) of a model's positional embeddings, if it has one."""
    settings = timm_source(name).settings
    return tuple(settings.input_size[1:]) if settings.fixed_input_size else None


def timm_network(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> nn.Module:
    """Return timm's own module for :func:`timm_model`. Only some are built for an image size."""
    check_timm_name(name)
    return create_timm_model(name, num_classes, in_channels, image_size, options)


def create_timm_model(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
    **pretrained: Any,
) -> nn.Module:
    """Return timm's module; ``pretrained`` are arguments of its ``create_model`` about weights."""
    source = timm_source(name)
    settings = source.settings
    arguments = {**options, "num_classes": num_classes, "in_chans": in_channels, **pretrained}
    default_size = settings.input_size[1:]
    if settings.fixed_input_size and image_size is not None and image_size != default_size:
        arguments["img_size"] = image_size
    try:
        return build_on_default_device(
            lambda: _timm().create_model(source.factory_name, **arguments)
        )
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        if name.startswith(HUB_PREFIX) and not options and "img_size" not in arguments:
            told = " ".join(str(error).split())
            raise UserError(
                f"timm cannot build {name} as it is configured there: {told}"
            ) from error
        if image_size is None or options or "img_size" not in arguments:
            raise
        reason = "" if isinstance(error, TypeError) else f" ({' '.join(str(error).split())})"
        raise UserError(
            f"model {PREFIX}{name} cannot take {image_size[0]}×{image_size[1]} images{reason}; "
            f"it is made for {default_size[0]}×{default_size[1]}"
        ) from error


class TimmSource(NamedTuple):
    """A model as timm finds it.

    ``settings`` are those of its weights, a PretrainedCfg of timm. ``factory_name`` is the name by
    which ``create_model`` builds it.
    """

    architecture: str
    settings: Any
    factory_name: str


def timm_source(name: str) -> TimmSource:
    """Return what timm knows of a model. One of the hub needs its configuration downloaded.

    Raises UserError for a model of the hub that is none of timm's, RunError without a network.
    """
    timm = _timm()
    if not name.startswith(HUB_PREFIX):
        settings = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
        return TimmSource(name.split(".")[0], settings, name)
    file = from_hub(name.removeprefix(HUB_PREFIX), HUB_CONFIG).fetch().path
    try:
        config = json.loads(file.read_bytes())
        stated = config.get("pretrained_cfg", config)
        stated |= {key: config[key] for key in ("num_classes",) if key in config}
        fields = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)}
        known = {key: value for key, value in stated.items() if key in fields}
        settings = timm.models.PretrainedCfg(**known)
        _, _, _ = map(int, settings.input_size)
        _ = [float(number) for number in (*settings.mean, *settings.std, settings.num_classes)]
        architecture = str(config["architecture"])
    except (ValueError, KeyError, TypeError, AttributeError):
        architecture = ""
    if architecture not in timm_names():
        raise UserError(f"{name} is no model of timm; see https://huggingface.co/timm")
    return TimmSource(architecture, settings, f"local-dir:{file.parent}")


def _wrap(model: Any, in_channels: int, size: tuple[int, int]) -> Classifier:
    shape = (2, in_channels, *size)
    try:
        last, maps = dry_run(
            model, lambda x: model.forward_intermediates(x, output_fmt="NCHW"), shape
        )
        sizes = [(feature_map.shape[2], feature_map.shape[3]) for feature_map in maps]
        ends = stage_ends(sizes, size)
        map_indices = ends if len(ends) > 1 else evenly_spaced(len(sizes))
        pools_last_map = last.ndim == 4 and _head_pools_first(model, last)
        wrapper = TimmModel(model, map_indices=map_indices, pools_last_map=pools_last_map)
        dry_run(wrapper, wrapper.forward_features, shape)
        return wrapper
    except Exception:  # no such method, or an unusual one: a few models in a thousand
        plan = make_plan(model, trace(model, shape), size)
        assert plan is not None, "a classifier of timm ends in a linear layer or convolution"
        return HookedModel(model, plan=plan._replace(final=None))


def head_name(library: Any) -> str:
    """Return the name of the layer that computes the logits (the first one if there are two)."""
    head = library.get_classifier()
    first = head[0] if isinstance(head, tuple | list) else head
    linear = [m for m in first.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    names: dict[nn.Module, str] = {module: name for name, module in library.named_modules()}
    return names[linear]


def _head_pools_first(model: Any, last: Tensor) -> bool:
    """Return whether the head's first layer that is not passive is average pooling."""
    called: list[nn.Module] = []
    leaves = [m for m in model.modules() if not list(m.children()) and not isinstance(m, PASSIVE)]
    with ExitStack() as hooks:
        for leaf in leaves:
            hooks.enter_context(leaf.register_forward_pre_hook(lambda m, _: called.append(m)))
        dry_run(model, model.forward_head, tuple(last.shape))
    return bool(called) and type(called[0]).__name__ in AVERAGE_POOLS


def _check_patches(name: str, model: nn.Module, size: tuple[int, int]) -> None:
    """Raise UserError if the image's sides are no multiples of the patch size: timm crops them."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(side % p for side, p in zip(size, patch, strict=True)):
        raise UserError(
            f"model {PREFIX}{name} needs images with sides divisible by {patch[0]}, "
            f"not {size[0]}×{size[1]}"
        )


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(
            f"models of timm need the package timm; install it: {install_command('timm')}"
        ) from None
    return timm
