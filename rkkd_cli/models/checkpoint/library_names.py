"""The models of torchvision and timm that a file names.

The libraries have some 1,500 models, so a file is compared only with those that something names:
an entry or option in it, its metadata, ``config.json`` beside it (as on the hub), its own name or
its folder's. The user's own code is never imported because a file says so.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from rkkd_cli.errors import UserError
from rkkd_cli.models.catalogue import LIBRARIES, check_model_name
from rkkd_cli.models.checkpoint.layout import NAME_KEYS, CheckpointWeights
from rkkd_cli.models.checkpoint.names import matching_names, name_hints, normalise

# The hub's cache: models--timm--resnet10t.c3_in1k/snapshots/<hash>/model.safetensors
HUB_FOLDER = re.compile(r"models--[^-]+--(?P<name>.+)")
CONFIG_FILE, MAX_CONFIG_BYTES = "config.json", 1_000_000
HUB_NAME_KEY = "architecture"
# Entries of timm's CheckpointSaver beside the weights; other training scripts write no version.
TIMM_ENTRIES = {"arch", "version"}
HASHED_NAME = re.compile(r"(?P<name>.+)-[0-9a-f]{8,10}")  # NAME-<hash>.pth, torch.hub's files


def library_candidates(weights: CheckpointWeights) -> Iterator[list[str]]:
    """Yield, for each hint that names some, the models that it names, the likeliest first.

    One hint can name both ``torchvision:resnet50`` and ``timm:resnet50``.
    """
    published = _published_files().get(weights.path.name)
    if published is not None:
        yield [f"torchvision:{published}"]
    hub_hints = _hub_hints(weights)
    in_timm_folder = weights.path.absolute().parent.parent.name == "timm"
    timm_first = bool(hub_hints) or weights.entries >= TIMM_ENTRIES or in_timm_folder
    for hint in dict.fromkeys([*hub_hints, *name_hints(weights.path, weights.hints)]):
        if _is_qualified(hint):
            yield [hint]
            continue
        models = _models_named(hint.rsplit("/", 1)[-1], timm_first)
        if models:
            yield models


def _is_qualified(hint: str) -> bool:
    """Return whether the hint is a library's model as rkkd names it, ``timm:NAME``."""
    if hint.partition(":")[0] not in LIBRARIES:
        return False
    try:
        check_model_name(hint)
    except UserError:  # a file may state anything
        return False
    return True


def _models_named(hint: str, timm_first: bool) -> list[str]:
    """Return the libraries' models that the hint names, those of the likelier library first."""
    matches = {library: matching_names(hint, _normalised_names(library)) for library in LIBRARIES}
    hashed = HASHED_NAME.fullmatch(hint)
    if hashed and matches["torchvision"]:
        # resnet50-0676ba61 is torchvision's, resnet50_a1_0-14fe96d1 timm's.
        timm_first |= normalise(hashed["name"]) != normalise(matches["torchvision"][0])
    order = reversed(LIBRARIES) if timm_first else LIBRARIES
    return [f"{library}:{name}" for library in order for name in matches[library]]


def _hub_hints(weights: CheckpointWeights) -> list[str]:
    """Return the model's names in safetensors metadata and in the hub's files and folders."""
    hints = [weights.metadata[key] for key in (HUB_NAME_KEY, *NAME_KEYS) if key in weights.metadata]
    hints += _names_in_config(weights.path.absolute().with_name(CONFIG_FILE))
    folders = (HUB_FOLDER.fullmatch(part) for part in weights.path.absolute().parts)
    return [*hints, *(folder["name"] for folder in folders if folder)]


def _names_in_config(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return []
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # no such file, or not about a model
        return []
    name = content.get(HUB_NAME_KEY) if isinstance(content, dict) else None
    return [name] if isinstance(name, str) else []


@cache
def _normalised_names(library: str) -> Mapping[str, str]:
    try:
        return {normalise(name): name for name in LIBRARIES[library]()}
    except UserError:  # the library is not installed
        return {}


@cache
def _published_files() -> Mapping[str, str]:
    """Return the names of torchvision's published files, each with its model."""
    from torchvision import models

    return {
        PurePosixPath(entry.url).name: name
        for name in LIBRARIES["torchvision"]()
        for entry in models.get_model_weights(name)
    }
