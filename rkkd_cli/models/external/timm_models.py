"""``timm:NAME``: the classifiers of timm, untrained, under timm's own names.

Needs the package timm. Its ``forward_intermediates`` gives the maps, tokens as maps too; the few
models without it are tapped as any other network (:mod:`rkkd_cli.models.external.feature_hooks`).
"""

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from rkkd_cli.errors import UserError, unknown_among_many
from rkkd_cli.models.external.adapt import built, check_size
from rkkd_cli.models.external.feature_hooks import Tapped, as_pooled, reading
from rkkd_cli.models.external.feature_plan import evenly_spaced, make_plan, stage_ends, trace
from rkkd_cli.models.external.wrapper import Borrowed
from rkkd_cli.models.features import Classifier, Features
from rkkd_cli.models.shapes import dry_run

PREFIX = "timm:"
AVERAGES = ("AdaptiveAvgPool2d", "FastAdaptiveAvgPool")  # torch's, and timm's own
PASSIVE = (nn.Identity, nn.Dropout)


class TimmModel(Borrowed):
    """A model of timm with ``forward_intermediates`` and ``forward_head``. No ``preacts``.

    ``mapped`` are the indices of the intermediates that are the maps; ``averages`` says that the
    head begins with the average over the places of the last map.
    """

    mapped: list[int]
    averages: bool

    def __init__(self, library: nn.Module, mapped: list[int], averages: bool) -> None:
        super().__init__(library, mapped=mapped, averages=averages)

    def forward_features(self, x: Tensor) -> Features:
        """Return one map per stage, the classifier's input, the logits and the averaged map."""
        last, maps = self._intermediates(x)
        head = head_name(self.library)
        with reading(self.library, set(), {head}) as (_, taken):
            logits: Tensor = self._head(last)
        final = self._swap(last) if self.averages else None
        return Features(tuple(maps), as_pooled(taken[head]), logits, (), final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a final map (B, D, H, W). Raises UserError if there is none."""
        if not self.averages:
            return super().classify(final)
        return self._head(self._swap(final, back=True))

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        library: Any = self.library
        last, maps = library.forward_intermediates(x, indices=self.mapped, output_fmt="NCHW")
        return last, maps

    def _head(self, last: Tensor) -> Tensor:
        library: Any = self.library
        logits: Tensor = library.forward_head(last)
        return logits

    def _swap(self, final: Tensor, back: bool = False) -> Tensor:
        """Turn timm's order of a map's sides into (B, D, H, W), or back."""
        if str(getattr(self.library, "output_fmt", "NCHW")).rsplit(".", 1)[-1] != "NHWC":
            return final
        return final.permute(0, 2, 3, 1) if back else final.permute(0, 3, 1, 2)


def timm_names() -> list[str]:
    """Return the names of timm's models. Raises UserError without timm."""
    return list(_timm().list_models())


def check_timm_name(name: str) -> None:
    """Raise UserError unless ``name`` (without its prefix; a tag after a dot is allowed) exists."""
    names = timm_names()
    if name.split(".")[0] not in names:
        raise unknown_among_many("timm model", name, names, "rkkd ls models timm")


def timm_model(
    name: str, num_classes: int, in_channels: int, image_size: tuple[int, int] | None
) -> Classifier:
    """Return a model of timm, initialised as timm does, without its weights.

    ``image_size`` (height, width) is built into the models that hold positions of a fixed number
    (their own size without it); of every model it is checked. State dicts are timm's.

    Raises UserError for an unknown name, a size that the model cannot take, or without timm.
    """
    model = timm_network(name, num_classes, in_channels, image_size)
    full_name, settings = PREFIX + name, _settings(name)
    fixed, own = bool(settings.fixed_input_size), settings.input_size[1:]
    if image_size is not None:
        _check_patches(full_name, model, image_size)
        check_size(full_name, model, in_channels, image_size, search=not fixed)
    return _wrapped(model, in_channels, image_size if fixed and image_size else own)


def timm_network(
    name: str, num_classes: int, in_channels: int, image_size: tuple[int, int] | None
) -> nn.Module:
    """Return timm's own module for :func:`timm_model`, which only some models have for a size."""
    check_timm_name(name)
    settings = _settings(name)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    own = settings.input_size[1:]
    if settings.fixed_input_size and image_size is not None and image_size != own:
        options["img_size"] = image_size
    try:
        return built(lambda: _timm().create_model(name, pretrained=False, **options))
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        if "img_size" not in options:
            raise
        raise _wrong_size(PREFIX + name, image_size, own, error) from error


def _settings(name: str) -> Any:
    timm = _timm()
    return timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()


def _wrapped(model: nn.Module, in_channels: int, size: tuple[int, int]) -> Classifier:
    shape = (2, in_channels, *size)
    library: Any = model
    try:
        last, maps = dry_run(
            model, lambda x: library.forward_intermediates(x, output_fmt="NCHW"), shape
        )
        sizes = [(one.shape[2], one.shape[3]) for one in maps]
        ends = stage_ends(sizes, size)
        mapped = ends if len(ends) > 1 else evenly_spaced(len(sizes))
        averages = last.ndim == 4 and _pools_first(model, last)
        wrapper = TimmModel(model, mapped, averages)
        dry_run(wrapper, wrapper.forward_features, shape)
        return wrapper
    except Exception:  # not there, or not of the usual form: a few models in a thousand
        plan = make_plan(model, trace(model, shape), size)
        assert plan is not None, "a classifier of timm ends in a linear layer or convolution"
        return Tapped(model, plan._replace(final=None))


def head_name(library: Any) -> str:
    """Return the name of the layer that gives the logits (the first one where there are two)."""
    head = library.get_classifier()
    first = head[0] if isinstance(head, tuple | list) else head
    linear = [m for m in first.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    names: dict[nn.Module, str] = {module: name for name, module in library.named_modules()}
    return names[linear]


def _pools_first(model: nn.Module, last: Tensor) -> bool:
    """Whether the head begins with an average over places: its first layer that does anything."""
    ran: list[nn.Module] = []
    leaves = [m for m in model.modules() if not list(m.children()) and not isinstance(m, PASSIVE)]
    handles = [leaf.register_forward_pre_hook(lambda m, _: ran.append(m)) for leaf in leaves]
    library: Any = model
    try:
        dry_run(model, library.forward_head, tuple(last.shape))
    finally:
        for handle in handles:
            handle.remove()
    return bool(ran) and type(ran[0]).__name__ in AVERAGES


def _check_patches(full_name: str, model: nn.Module, size: tuple[int, int]) -> None:
    """Raise UserError where patches would leave a rest of the image, which timm cuts off."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(side % p for side, p in zip(size, patch, strict=True)):
        raise UserError(
            f"model {full_name} needs images with sides divisible by {patch[0]}, "
            f"not {size[0]}×{size[1]}"
        )


def _wrong_size(
    full_name: str, size: tuple[int, int] | None, own: tuple[int, int], error: Exception
) -> UserError:
    assert size is not None
    reason = "" if isinstance(error, TypeError) else f" ({' '.join(str(error).split())})"
    return UserError(
        f"model {full_name} cannot take {size[0]}×{size[1]} images{reason}; "
        f"it is made for {own[0]}×{own[1]}"
    )


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise UserError(
            "models of timm need the package timm; install it: pip install 'rkkd[timm]'"
        ) from None
    module: ModuleType = timm
    return module
