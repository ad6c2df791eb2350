"""Teachers in safetensors files that describe themselves, and where imported ones are kept."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from rkkd_cli import __version__
from rkkd_cli.errors import UserError
from rkkd_cli.files import whole_file, write_whole
from rkkd_cli.models.checkpoint.recognise import Images
from rkkd_cli.train.teacher.store import TeacherStore, file_sha256

IMPORTED = "imported-"
PREFIX = "rkkd."
LENGTH = 8  # bytes of the length of a safetensors header

# The facts that go into a file's metadata, and their names there after the prefix.
FACTS = ("model", "classes", "channels", "image_size", "dataset", "test_acc", "test_images")
TOLD = {key: key for key in FACTS}
TOLD["sha256"] = "source_sha256"

SHORTEST_KEY = 4


class Found(NamedTuple):
    """A teacher's weights file, and what is known of it (empty for a file from elsewhere)."""

    path: Path
    facts: dict[str, Any]


def teacher_bytes(
    state: Mapping[str, Tensor], facts: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> bytes:
    """Return the content of a safetensors file with the weights and what is known of them.

    ``further`` facts only say where the weights come from. The format knows neither strides nor
    shared memory, so every tensor is written out by itself.
    """
    metadata = {"format": "pt", f"{PREFIX}version": __version__}
    metadata |= {
        f"{PREFIX}{name}": str(facts[key])
        for key, name in TOLD.items()
        if facts.get(key) is not None
    }
    metadata |= {f"{PREFIX}{name}": str(value) for name, value in (further or {}).items()}
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    return _in_order(save(plain, metadata))


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted, so that equal files are equal bytes.

    The library writes them in an order that changes from call to call. Offsets count from the end
    of the header, so it may change its length.
    """
    length = int.from_bytes(content[:LENGTH], "little")
    header = json.loads(content[LENGTH : LENGTH + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)  # keeps the numbers aligned
    return len(text).to_bytes(LENGTH, "little") + text + content[LENGTH + length :]


def told(metadata: Mapping[str, str], key: str) -> str | None:
    """Return a fact that a file's metadata states; the file may state anything."""
    return metadata.get(f"{PREFIX}{TOLD[key]}")


def told_images(metadata: Mapping[str, str]) -> Images | None:
    """Return for which images a file's metadata state that its teacher is, if they do."""
    return known_images({key: told(metadata, key) for key in ("classes", "channels", "image_size")})


def known_images(facts: Mapping[str, Any]) -> Images | None:
    """Return for which images the facts say that a teacher is, if they do."""
    texts = [str(facts.get(key)) for key in ("classes", "channels")]
    texts += str(facts.get("image_size")).split("x")
    if len(texts) != 4 or not all(re.fullmatch("[1-9][0-9]{0,5}", text) for text in texts):
        return None
    classes, channels, height, width = map(int, texts)
    return Images(classes, channels, (height, width))


def keep_imported(
    cache: Path, key: str, state: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Keep an imported teacher with its facts; return its weights file.

    The facts come last: without them the weights count as none.
    """
    content = teacher_bytes(state, facts)
    weights = TeacherStore(cache).weights_path(key)
    weights.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(weights) as file:
        file.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    text = json.dumps({**facts, "key": key, "weights_sha256": sha256}, indent=2, ensure_ascii=False)
    write_whole(weights.parent / "teacher.json", text)
    return weights


def find_teacher(name: str, cache: Path) -> Found:
    """Return the teacher that a key (or its beginning), a file or a model's name means.

    Raises UserError where that is none or several, and for one whose file has been damaged.
    """
    store = TeacherStore(cache)
    known = {str(facts["key"]): facts for facts in store.list()}
    keys = [name] if name in known else list(_meant(name, known))
    path = Path(name).expanduser()
    if not keys and path.is_dir() and path.name in known:
        keys = [path.name]
    if path.is_file() and name not in known:
        return Found(path, {})
    if not keys:
        raise UserError(
            f"no cached teacher or file {name!r}; `rkkd teacher ls` lists the cached ones"
        )
    if len(keys) > 1:
        raise UserError(f"{name!r} may be {' or '.join(keys)}; give the key (`rkkd teacher ls`)")
    facts = known[keys[0]]
    weights = store.weights_path(keys[0])
    if file_sha256(weights) != facts.get("weights_sha256", facts["sha256"]):
        raise UserError(f"{weights} is damaged; train or import the teacher again")
    return Found(weights, facts)


def _meant(name: str, known: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for key, facts in known.items():
        begins = len(name) >= SHORTEST_KEY and key.removeprefix(IMPORTED).startswith(name)
        if begins or facts.get("model") == name:
            yield key
