"""The weights that torchvision and timm publish: their names, files and preprocessing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.models.external.downloads import (
    HUB_PREFIX,
    HUB_WEIGHTS,
    Download,
    from_hub,
    from_torch_hub,
)
from rkkd_cli.models.external.timm_models import check_timm_name, create_timm_model, timm_source
from rkkd_cli.models.external.torchvision_models import check_torchvision_name

PRETRAINED = "pretrained"  # a library's default weights


class PublishedWeights(NamedTuple):
    """A library's weights: their name there, their file, and what they are made for.

    ``classes`` is 0 for weights without a head; ``size`` is (height, width); ``mean`` and ``std``
    have a value for each channel.
    """

    name: str
    file: Download
    classes: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def torchvision_weights(model: str, weights: str) -> PublishedWeights | None:
    """Return the weights of a model of torchvision; None if it knows no such name.

    Raises UserError if torchvision has no weights of the model.
    """
    check_torchvision_name(model)
    from torchvision import models

    known = models.get_model_weights(model)
    name = weights.removeprefix(f"{known.__name__}.")
    if name == PRETRAINED:
        name = "DEFAULT"
    if name not in known.__members__:
        return None
    entry: Any = known[name]
    transforms = entry.transforms()
    side = transforms.crop_size[0]
    return PublishedWeights(
        entry.name,
        from_torch_hub(entry.url),
        len(entry.meta["categories"]),
        (side, side),
        tuple(map(float, transforms.mean)),
        tuple(map(float, transforms.std)),
    )


def timm_weights(model: str, weights: str) -> PublishedWeights | None:
    """Return the weights of a model of timm by their tag; None if it knows no such tag.

    ``weights`` may also be ``hf-hub:OWNER/NAME``. Raises UserError if timm publishes none of the
    model, or if those of the hub are another model's.
    """
    check_timm_name(model)
    name = timm_weights_name(model, weights)
    if name is None:
        return None
    source, wanted = timm_source(name), timm_source(model).architecture
    if source.architecture != wanted:
        raise UserError(
            f"{weights} has weights of timm:{source.architecture}, not of timm:{wanted}; name that "
            "model"
        )
    settings = source.settings
    if name.startswith(HUB_PREFIX):
        file = from_hub(name.removeprefix(HUB_PREFIX), *HUB_WEIGHTS)
    elif settings.hf_hub_id:
        names = (settings.hf_hub_filename,) if settings.hf_hub_filename else HUB_WEIGHTS
        file = from_hub(settings.hf_hub_id, *names)
    elif settings.url:
        file = from_torch_hub(settings.url)
    else:
        raise UserError(f"timm publishes no weights of {model}; give a file")
    _, height, width = settings.input_size
    label = name if name.startswith(HUB_PREFIX) else settings.tag or name
    mean, std = tuple(settings.mean), tuple(settings.std)
    return PublishedWeights(label, file, settings.num_classes, (height, width), mean, std)


def timm_weights_name(model: str, weights: str) -> str | None:
    """Return the name by which timm knows a model with these weights, None if it knows none."""
    if weights.startswith(HUB_PREFIX):
        return weights
    if weights == PRETRAINED:
        return model
    name = f"{timm_source(model).architecture}.{weights}"
    return name if name in _timm_names(model) else None


def _timm_names(model: str) -> list[str]:
    import timm

    names: list[str] = timm.list_models(f"{timm_source(model).architecture}.*", pretrained=True)
    return names


def unknown_weights(library: str, model: str, weights: str) -> UserError:
    """Return the error for a name that is neither a library's name of its weights nor a file."""
    if library == "torchvision":
        from torchvision import models

        choices = [entry.name for entry in models.get_model_weights(model)]
    else:
        choices = [name.partition(".")[2] for name in _timm_names(model)]
    kind = f"weights of {library}:{model}"
    error = unknown_name(kind, weights, [PRETRAINED, *choices])
    return UserError(f"{error}, or a file, and there is none of that name")


def timm_state(
    name: str, tensors: Mapping[str, Tensor], in_channels: int, size: tuple[int, int]
) -> dict[str, Tensor]:
    """Return timm's published tensors under the keys of its model of today, with their own head.

    timm itself renames keys, fits positional embeddings to the image size, and the first
    convolution to the number of channels.

    Raises UserError if they do not fit.
    """
    settings = timm_source(name).settings
    overlay = {"state_dict": dict(tensors), "source": None}
    try:
        with torch.random.fork_rng(devices=[]):
            model = create_timm_model(
                name,
                settings.num_classes,
                in_channels,
                size,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
            )
    except (RuntimeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[1:2] or lines)
        raise UserError(f"the file of timm's weights {name} holds others: {reason}") from None
    state: dict[str, Tensor] = model.state_dict()
    return state
