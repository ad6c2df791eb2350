"""Teachers in safetensors files with metadata, and the store's imported teachers."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from rkkd_cli import __version__
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.tasks import TASKS
from rkkd_cli.errors import UserError
from rkkd_cli.files import file_sha256
from rkkd_cli.models.checkpoint.recognise import ImageSpec
from rkkd_cli.train.teacher.store import IMPORTED_PREFIX, TeacherStore

METADATA_PREFIX = "rkkd."

# The facts in a file's metadata, and their names there after the prefix.
METADATA_NAMES = {
    key: key
    for key in (
        "model",
        "options",
        "classes",
        "embedding",
        "normalize",
        "channels",
        "image_size",
        "resampled_from",
        "fit",
        "mean",
        "std",
        "class_names",
        "dataset",
        *(f"test_{name}" for task in TASKS.values() for name in task.held_out),
        "test_images",
    )
} | {"sha256": "source_sha256"}

MIN_KEY_LENGTH = 4  # of the beginning of a key that is enough to find a teacher


class TeacherWeights(NamedTuple):
    """A teacher's weights file and its facts (empty for a file that is not in the store)."""

    path: Path
    facts: dict[str, Any]


def teacher_bytes(
    state: Mapping[str, Tensor], facts: Mapping[str, Any], origin: Mapping[str, Any] | None = None
) -> bytes:
    """Return the content of a safetensors file with the weights and their facts as metadata.

    ``origin`` is further metadata about where the weights come from. The format has neither strides
    nor shared memory, so every tensor is written separately. The library writes the metadata in any
    order, so equal teachers may be different bytes: what identifies one is Teacher.fingerprint.
    """
    metadata = {"format": "pt", f"{METADATA_PREFIX}version": __version__}
    for key, name in METADATA_NAMES.items():
        if facts.get(key) is not None:
            fact = facts[key]
            is_plain = not isinstance(fact, list | dict)
            text = str(fact) if is_plain else json.dumps(fact, ensure_ascii=False)
            metadata[f"{METADATA_PREFIX}{name}"] = text
    metadata |= {f"{METADATA_PREFIX}{name}": str(value) for name, value in (origin or {}).items()}
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    return save(tensors, metadata)


def metadata_fact(metadata: Mapping[str, str], key: str) -> str | None:
    """Return a fact from a file's metadata, if it is there. It may be anything."""
    return metadata.get(f"{METADATA_PREFIX}{METADATA_NAMES[key]}")


def options_in_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the options with which a file's model is built, if its metadata say so."""
    try:
        return options_in_facts({"options": json.loads(metadata_fact(metadata, "options") or "{}")})
    except (ValueError, RecursionError):  # a file may state anything
        return {}


def options_in_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which a teacher's model is built, if its facts say so.

    Raises ValueError for what cannot be options.
    """
    return ModelConfig(model="", options=facts.get("options")).given_options


def is_composed(metadata: Mapping[str, str]) -> bool:
    """Tell whether these are the weights of a student with parts of its method, as SimKD's."""
    return f"{METADATA_PREFIX}method" in metadata and metadata_fact(metadata, "model") is None


def recorded_facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what a weights file's metadata, or the facts beside a cached one, say of it."""
    facts = {key: metadata_fact(metadata, key) for key in METADATA_NAMES}
    return facts | (TeacherStore.facts_beside(path) or {})


def images_in_metadata(metadata: Mapping[str, str]) -> ImageSpec | None:
    """Return the images that a teacher takes, if its file's metadata say so."""
    keys = ("classes", "channels", "image_size")
    return images_in_facts({key: metadata_fact(metadata, key) for key in keys})


def images_in_facts(facts: Mapping[str, Any]) -> ImageSpec | None:
    """Return the images that a teacher takes, if its facts say so."""
    texts = [str(facts.get(key)) for key in ("classes", "channels")]
    texts += str(facts.get("image_size")).split("x")
    if len(texts) != 4 or not all(re.fullmatch("[1-9][0-9]{0,5}", text) for text in texts):
        return None
    classes, channels, height, width = map(int, texts)
    return ImageSpec(classes, channels, (height, width))


def save_imported(
    cache: Path, key: str, state: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Write an imported teacher with its facts into the store; return its weights file."""
    store, content = TeacherStore(cache), teacher_bytes(state, facts)
    sha256 = hashlib.sha256(content).hexdigest()
    store.write(key, content, {**facts, "key": key, "weights_sha256": sha256})
    return store.weights_path(key)


def find_teacher(name: str, cache: Path) -> TeacherWeights:
    """Return the teacher with this key (or beginning of a key), file or model name.

    Raises UserError if there is none or several, or if the file is damaged.
    """
    store = TeacherStore(cache)
    facts_of = {str(facts["key"]): facts for facts in store.list()}
    path = Path(name).expanduser()
    keys = [name] if name in facts_of else _matching_keys(name, facts_of)
    if not keys and path.is_dir() and path.name in facts_of:
        keys = [path.name]
    if path.is_file() and name not in facts_of:
        return TeacherWeights(path, {})
    if not keys:
        raise UserError(
            f"no cached teacher or file {name!r}; `rkkd teacher ls` lists the cached ones"
        )
    if len(keys) > 1:
        raise UserError(f"{name!r} may be {' or '.join(keys)}; give the key (`rkkd teacher ls`)")
    facts = facts_of[keys[0]]
    weights = store.weights_path(keys[0])
    if file_sha256(weights) != facts.get("weights_sha256", facts["sha256"]):
        raise UserError(f"{weights} is damaged; train or import the teacher again")
    return TeacherWeights(weights, facts)


def _matching_keys(name: str, facts_of: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys that begin with the name, and those of teachers of that model."""
    is_long_enough = len(name) >= MIN_KEY_LENGTH
    return [
        key
        for key, facts in facts_of.items()
        if (is_long_enough and key.removeprefix(IMPORTED_PREFIX).startswith(name))
        or facts.get("model") == name
    ]
