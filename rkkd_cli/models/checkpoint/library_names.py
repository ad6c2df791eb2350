"""Which models of torchvision and timm a file's words name.

Both libraries have some 1,500 models, so only those are built and compared with the file that
something names: an entry or option in it, its metadata, ``config.json`` beside it (the hub's way),
its own name, its folder's. The user's own code is never imported because a file says so.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from rkkd_cli.errors import UserError
from rkkd_cli.models.catalogue import LIBRARIES, check_model_name
from rkkd_cli.models.checkpoint.layout import NAME_KEYS, Weights
from rkkd_cli.models.checkpoint.names import all_named, model_words, plainly

# The hub's cache: models--timm--resnet10t.c3_in1k/snapshots/<hash>/model.safetensors
HUB_FOLDER = re.compile(r"models--[^-]+--(?P<name>.+)")
CONFIG, LARGEST_CONFIG = "config.json", 1_000_000
HUB_KEY = "architecture"
# What timm's CheckpointSaver writes beside the weights; PyTorch's other scripts have no version.
TIMM_ENTRIES = {"arch", "version"}
HASHED = re.compile(r"(?P<name>.+)-[0-9a-f]{8,10}")  # NAME-<hash>.pth, torch.hub's files


def library_candidates(weights: Weights) -> Iterator[list[str]]:
    """Yield, for each word that names some, the models that it names, the likeliest first.

    ``torchvision:resnet50`` and ``timm:resnet50`` are named by one word.
    """
    published = _published().get(weights.path.name)
    if published is not None:
        yield [f"torchvision:{published}"]
    hub = _hub_words(weights)
    for word in dict.fromkeys([*hub, *model_words(weights.path, weights.words)]):
        direct = _spelt_out(word)
        if direct is not None:
            yield [direct]
            continue
        named = _named(word.rsplit("/", 1)[-1], bool(hub) or beside_timm(weights))
        if named:
            yield named


def beside_timm(weights: Weights) -> bool:
    """Tell whether timm's training script or its place on the hub shows that it is timm's file."""
    return weights.beside >= TIMM_ENTRIES or weights.path.absolute().parent.parent.name == "timm"


def _spelt_out(word: str) -> str | None:
    """Return a library's model that is named as rkkd names it."""
    if word.partition(":")[0] not in LIBRARIES:
        return None
    try:
        check_model_name(word)
    except UserError:  # a file may state anything
        return None
    return word


def _named(word: str, timm_first: bool) -> list[str]:
    found = {library: all_named(word, _plain_names(library)) for library in LIBRARIES}
    hashed = HASHED.fullmatch(word)
    if hashed and found["torchvision"]:
        # resnet50-0676ba61 is torchvision's, resnet50_a1_0-14fe96d1 timm's.
        timm_first |= plainly(hashed["name"]) != plainly(found["torchvision"][0])
    order = reversed(LIBRARIES) if timm_first else LIBRARIES
    return [f"{library}:{name}" for library in order for name in found[library]]


def _hub_words(weights: Weights) -> list[str]:
    """Return what the hub's files and folders, and safetensors metadata, call the model."""
    words = [weights.metadata[key] for key in (HUB_KEY, *NAME_KEYS) if key in weights.metadata]
    words += _configured(weights.path.absolute().with_name(CONFIG))
    folders = (HUB_FOLDER.fullmatch(part) for part in weights.path.absolute().parts)
    return [*words, *(folder["name"] for folder in folders if folder)]


def _configured(path: Path) -> list[str]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            return []
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # none, or it is not about a model
        return []
    word = content.get(HUB_KEY) if isinstance(content, dict) else None
    return [word] if isinstance(word, str) else []


@cache
def _plain_names(library: str) -> Mapping[str, str]:
    try:
        return {plainly(name): name for name in LIBRARIES[library]()}
    except UserError:  # not installed
        return {}


@cache
def _published() -> Mapping[str, str]:
    """Return torchvision's models by the names of the files that it publishes."""
    from torchvision import models

    return {
        PurePosixPath(entry.url).name: name
        for name in LIBRARIES["torchvision"]()
        for entry in models.get_model_weights(name)
    }
