"""Options of a model: further arguments of its library's builder, or of the user's own code."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rkkd_cli.errors import UserError, nearest
from rkkd_cli.models.external.wrapper import WrappedModel
from rkkd_cli.models.features import Classifier

ImageSize = tuple[int, int] | None

NO_OPTIONS: Mapping[str, Any] = {}

# The names by which a parameter says that it is the number of classes, or of input channels.
CLASSES = ("num_classes", "n_classes", "nb_classes", "nclasses", "classes")
CHANNELS = ("in_channels", "in_chans", "input_channels")

# Of libraries: what is set from the dataset, and with what a builder loads weights by itself.
RESERVED = (
    "image_size", "img_size", "input_size", "pretrained", "pretrained_cfg",
    "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir", "weights",
    "weights_backbone", "progress", "features_only",
)  # fmt: skip


def check_options(
    name: str, options: Mapping[str, Any], is_zoo: bool = False, is_library: bool = False
) -> None:
    """Raise UserError for options of a model that has none, and for those that nobody may set."""
    if options and is_zoo:
        raise UserError(
            f"model {name} takes no options, and {', '.join(options)} is given; timm's models do "
            "(drop_path_rate), torchvision's (dropout, stochastic_depth_prob), and your own"
        )
    reserved = (*CLASSES, *CHANNELS, *(RESERVED if is_library else ()))
    for option in options:
        if option in reserved:
            raise UserError(
                f"{option} is no option of model {name}: classes, channels and size are those of "
                "the dataset, and no builder loads weights; leave it out"
            )


def build_with_options(
    name: str,
    build: Callable[[ImageSize, Mapping[str, Any]], Classifier],
    image_size: ImageSize,
    options: Mapping[str, Any],
) -> Classifier:
    """Return ``build(image_size, options)``.

    Raises UserError where that fails: that of ``build``, or one that names the options.
    """
    try:
        return build(image_size, options)
    except UserError:
        raise
    except Exception as error:  # a library's builder may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        known = _parameters_of(build(None, {}))
        unknown = [option for option in options if option not in known and option in reason]
        close = nearest(unknown[0], known) if unknown else None
        hint = f"; did you mean {close!r}?" if close else ""
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        images = f" for {image_size[0]}×{image_size[1]} images" if image_size else ""
        raise UserError(
            f"model {name} cannot be built with {given}{images}: {reason}{hint}"
        ) from error


def _parameters_of(model: nn.Module) -> list[str]:
    """Return the names of the arguments that the model's own class takes."""
    owner = model.library if isinstance(model, WrappedModel) else model
    return list(inspect.signature(type(owner)).parameters)
