"""Names of models in file and folder names, as the projects of the field write them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

# SimKD and RepDistiller name a student's folder S:resnet8x4_T:resnet32x4_cifar100_kd_…; on
# Windows SimKD writes ~ for the colon, and unpacked archives often have _ or -.
DISTILLED = re.compile(r"S[:~](?P<student>.+?)_T[:~]")
SUFFIXES = re.compile(r"(\.pth|\.pt|\.tar|\.ckpt|\.bin|\.safetensors)+$")


def model_words(path: Path, stated: Iterable[str]) -> Iterator[str]:
    """Yield what may name the model: what the file states, its own name, its folder's."""
    yield from stated
    yield SUFFIXES.sub("", path.name)
    folder = path.absolute().parent.name
    distilled = DISTILLED.match(folder)
    yield distilled["student"] if distilled else folder


def named_among(words: Iterable[str], names: Collection[str]) -> str | None:
    """Return the first of the names that a word begins with, at a boundary, or None.

    ``wrn_40_2_vanilla`` begins with ``wrn_40_2``, ``resnet34-b627a593`` with ``resnet34``; the
    longest beginning counts, and upper case matters only where nothing else tells names apart.
    """
    for word in words:
        for beginning in _beginnings(word):
            if beginning in names:
                return beginning
            alike = [name for name in names if name.lower() == beginning.lower()]
            if len(alike) == 1:
                return alike[0]
    return None


def plainly(name: str) -> str:
    """Return the letters and digits of a name: ``mnasnet0.5`` and ``mnasnet0_5`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def all_named(word: str, plain_names: Mapping[str, str]) -> list[str]:
    """Return the names that a word begins with, at a boundary, the longest first.

    ``plain_names`` has them under their letters and digits.
    """
    plain = [plainly(beginning) for beginning in _beginnings(word)]
    return list(dict.fromkeys(plain_names[one] for one in plain if one in plain_names))


def _beginnings(word: str) -> Iterator[str]:
    """Yield the word, then what stands before each of its separators, the longest first."""
    yield word
    for match in reversed(list(re.finditer(r"[_\-.:~]", word))):
        if match.start():
            yield word[: match.start()]
