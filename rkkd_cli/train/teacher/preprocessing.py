"""The preprocessing and the classes that a teacher was measured with: recorded, and compared.

They travel with the weights: as facts in the cache, as metadata in safetensors files. A run of
the same weights on other pixels, or with the classes in another order, gets no error from PyTorch,
only a teacher that guesses.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.data.model_input import ImageFormat, ModelInput
from rkkd_cli.data.on_device import AnyDataset
from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.train.teacher.store import format_image_size

# Mean and std, of pixels in [0, 1], that differ by less count as equal: subsets of a dataset do.
TOLERANCE = 0.01

Facts = Mapping[str, Any]


def preprocessing_facts(dataset: AnyDataset, takes: ModelInput) -> dict[str, Any]:
    """Return what a model's facts say of the images it was measured on."""
    return {
        "classes": len(dataset.classes),
        "channels": dataset.in_channels,
        **format_facts(takes),
        "class_names": list(dataset.classes),
    }


def format_facts(takes: ModelInput) -> dict[str, Any]:
    """Return size and normalisation of a model's images.

    ``resampled_from`` is the size of those that they are made of, if it is another one.
    """
    own, size = takes.own, format_image_size(takes.own.size)
    facts = {"image_size": size, "mean": list(own.mean), "std": list(own.std)}
    before = format_image_size(takes.images.size)
    return facts if before == size else facts | {"resampled_from": before}


def check_class_order(
    path: Path, recorded: Facts, classes: Sequence[str], dataset_name: str
) -> None:
    """Raise UserError for a class that the teacher's record and the dataset number differently."""
    names = _list_of(str, recorded.get("class_names"))
    if len(set(names)) != len(classes):
        return
    for index, name in enumerate(classes):
        if name in names and names[index] != name:
            raise UserError(
                f"checkpoint {path} has the classes in another order than the dataset "
                f"{dataset_name}: {_short(name)} is its class {names.index(name)}, and class "
                f"{index} of the dataset; name the class folders so that they sort in its order "
                f"(as 0_{_short(names[0])[1:-1]}, 1_{_short(names[1])[1:-1]} and so on)"
            )


def check_same_classes(
    path: Path, recorded: Facts, classes: Sequence[str], dataset_name: str
) -> None:
    """Raise UserError for a detector's record that names other classes than the dataset."""
    names = _list_of(str, recorded.get("class_names"))
    other = _first_other(names, classes)
    if other is not None:
        raise UserError(
            f"checkpoint {path} detects other categories than those of the dataset {dataset_name}: "
            f"its class {other} is {_short(names[other])}, and the dataset's "
            f"{_short(classes[other])}; give a teacher of these categories"
        )


def differences(recorded: Facts, dataset: AnyDataset, own: ImageFormat) -> list[str]:
    """Return a sentence for each point in which a teacher's record differs from what it gets.

    That is the dataset's classes, and its images in the teacher's ``own`` format.
    """
    return [
        *_normalisation(recorded, own),
        *_size(recorded, own),
        *_names(recorded, dataset),
    ]


def _normalisation(recorded: Facts, own: ImageFormat) -> list[str]:
    here = {"mean": own.mean, "std": own.std}
    there = {key: _list_of(float, recorded.get(key)) for key in here}
    if not any(_differ(there[key], here[key]) for key in here):
        return []
    words = " ".join(f"'teacher.{key}={_rounded(values)}'" for key, values in there.items())
    return [
        f"the teacher was measured on images normalised with mean {_rounded(there['mean'])} and "
        f"std {_rounded(there['std'])}, here they have mean {_rounded(here['mean'])} and std "
        f"{_rounded(here['std'])}; its own are {words}"
    ]


def _size(recorded: Facts, own: ImageFormat) -> list[str]:
    there, here = recorded.get("image_size"), format_image_size(own.size)
    if there in (None, here):
        return []
    return [
        f"the teacher was measured on images of {_short(str(there))[1:-1]}, here they are {here}; "
        "teacher.image_size resamples them"
    ]


def _names(recorded: Facts, dataset: AnyDataset) -> list[str]:
    there, here = _list_of(str, recorded.get("class_names")), dataset.classes
    index = _first_other(there, here)
    if index is None:
        return []
    return [
        f"class {index} is {_short(there[index])} to the teacher, and {_short(here[index])} here; "
        "see that the classes are in its order"
    ]


def _first_other(there: Sequence[str], here: Sequence[str]) -> int | None:
    """Return the first class that has another name, of as many; None where one has no names."""
    numbers = [str(index) for index in range(len(here))]
    if len(there) != len(here) or numbers in ([*there], [*here]):
        return None
    pairs = zip(there, here, strict=True)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), None)


def _list_of(kind: type, value: Any) -> list[Any]:
    """Return a fact that should be a list, itself or as JSON; empty for anything else.

    A file may state anything.
    """
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return []
    kinds = (int, float) if kind is float else kind
    is_list = isinstance(items, list) and all(isinstance(item, kinds) for item in items)
    return items if is_list else []


def _differ(a: Sequence[float], b: Sequence[float]) -> bool:
    """Tell whether two lists of as many values differ by more than the tolerance."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and any(
        not math.isclose(x, y, rel_tol=0, abs_tol=TOLERANCE) for x, y in pairs
    )


def _rounded(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _short(name: str) -> str:
    return repr(name if len(name) <= MAX_SHOWN_LENGTH else f"{name[:MAX_SHOWN_LENGTH]}…")
