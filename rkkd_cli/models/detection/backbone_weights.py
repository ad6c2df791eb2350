"""A classifier's weights in the backbone of a detector."""

from collections.abc import Mapping

import torch
from torch import Tensor

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, candidate_views
from rkkd_cli.models.checkpoint.load import find_misfit
from rkkd_cli.models.checkpoint.upgrade import upgrade_keys
from rkkd_cli.models.detection.backbones import classifier_names
from rkkd_cli.models.detection.detector import IN_CHANNELS, Detector
from rkkd_cli.models.external.published_weights import timm_state, timm_weights_name
from rkkd_cli.models.external.timm_models import timm_source
from rkkd_cli.models.first_weights import WeightsSource


def load_backbone(
    detector: Detector, state_dict: Mapping[str, Tensor], source: str = "the backbone's file"
) -> None:
    """Load the weights of a classifier into the backbone; its head is left out.

    The names are the classifier's own, perhaps behind a wrapper's prefix. ``source`` names the
    weights in messages. On an error the detector does not change.

    Raises UserError that says how they differ from the backbone.
    """
    pyramid = detector.backbone
    body = pyramid.body.state_dict()
    names = classifier_names(pyramid)
    wanted = {name: body[own] for name, own in names.items()}
    misfits = []
    for view in candidate_views(dict(state_dict)):
        tensors, _ = upgrade_keys(view.tensors, wanted)
        found = {name: tensors[name] for name in wanted if name in tensors}
        misfit = find_misfit(found, wanted)
        if misfit is None:
            counters = {n: torch.zeros((), dtype=torch.long) for n in wanted if n not in found}
            state = {names[name]: tensor for name, tensor in {**found, **counters}.items()}
            pyramid.body.load_state_dict(state, strict=False)
            return
        misfits.append(misfit)
    raise UserError(f"{source} {misfits[0]}")


def load_backbone_file(
    detector: Detector, source: WeightsSource, weights: CheckpointWeights
) -> None:
    """Load a classifier's file into the backbone.

    A published source is that of the backbone's model, as
    :func:`rkkd_cli.models.first_weights.find_weights` returns it. ``weights`` are those of its
    file.

    Raises UserError for a file that does not fit.
    """
    tensors: Mapping[str, Tensor] = weights.tensors
    if source.published is not None and source.model.startswith("timm:"):
        name = timm_weights_name(source.model.partition(":")[2], source.name)
        assert name is not None
        _, height, width = timm_source(name).settings.input_size
        tensors = timm_state(name, tensors, IN_CHANNELS, (height, width))
    load_backbone(detector, tensors, f"checkpoint {source.path}")
