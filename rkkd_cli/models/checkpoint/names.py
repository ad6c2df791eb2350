"""Model names in the file and folder names that the field's projects write."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

# SimKD and RepDistiller name a student's folder S:resnet8x4_T:resnet32x4_cifar100_kd_…; on Windows
# SimKD writes ~ instead of the colon.
DISTILLED_STUDENT = re.compile(r"S[:~](?P<student>.+?)_T[:~]")
SUFFIXES = re.compile(r"(\.pth|\.pt|\.tar|\.ckpt|\.bin|\.safetensors)+$")


def name_hints(path: Path, stated: Iterable[str]) -> Iterator[str]:
    """Yield what may name the model: the file's stated names, its own name, its folder's name."""
    yield from stated
    yield SUFFIXES.sub("", path.name)
    folder = path.absolute().parent.name
    distilled = DISTILLED_STUDENT.match(folder)
    yield distilled["student"] if distilled else folder


def first_named(hints: Iterable[str], names: Collection[str]) -> str | None:
    """Return the model name that the first matching hint begins with, or None.

    ``wrn_40_2_vanilla`` begins with ``wrn_40_2``, ``resnet34-b627a593`` with ``resnet34``. The
    longest name counts. Case only matters for names that differ in nothing else.
    """
    for hint in hints:
        for prefix in _prefixes(hint):
            if prefix in names:
                return prefix
            matches = [name for name in names if name.lower() == prefix.lower()]
            if len(matches) == 1:
                return matches[0]
    return None


def normalise(name: str) -> str:
    """Return the letters and digits of a name: ``mnasnet0.5`` and ``mnasnet0_5`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def matching_names(hint: str, normalised_names: Mapping[str, str]) -> list[str]:
    """Return the model names that a hint begins with, the longest first.

    ``normalised_names`` maps each name's letters and digits to the name.
    """
    prefixes = [normalise(prefix) for prefix in _prefixes(hint)]
    return list(dict.fromkeys(normalised_names[p] for p in prefixes if p in normalised_names))


def _prefixes(word: str) -> Iterator[str]:
    """Yield the word, then the part before each of its separators, the longest first."""
    yield word
    for match in reversed(list(re.finditer(r"[_\-.:~]", word))):
        if match.start():
            yield word[: match.start()]
