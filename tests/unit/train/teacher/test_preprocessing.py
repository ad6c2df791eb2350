"""What a teacher's record says of its images and classes, against those of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.errors import UserError
from rkkd_cli.train.teacher.model import chance_notes
from rkkd_cli.train.teacher.preprocessing import (
    check_class_order,
    check_same_classes,
    differences,
    preprocessing_facts,
)
from rkkd_cli.train.teacher.safetensors_files import recorded_facts, save_imported, teacher_bytes


def dataset(*classes: str, mean: float = 0.5, std: float = 0.2, side: int = 8) -> Dataset:
    images = np.zeros((len(classes), 1, side, side), np.uint8)
    split = LabelledImages(images, np.arange(len(classes)))
    return Dataset("mine", split, split, None, classes, (mean,), (std,), 0, False)


def facts_of(measured: Dataset) -> dict[str, Any]:
    images = measured.image_format
    return preprocessing_facts(measured, ModelInput(images, images))


def differ(facts: dict[str, Any], here: Dataset) -> list[str]:
    return differences(facts, here, here.image_format)


PETS = dataset("cat", "dog", "fish")


@pytest.mark.parametrize("as_text", [True, False], ids=["metadata", "facts"])
def test_the_same_images_and_classes_are_no_difference(as_text: bool) -> None:
    facts = facts_of(PETS)
    if as_text:
        facts = {k: json.dumps(v) if isinstance(v, list) else str(v) for k, v in facts.items()}
    check_class_order(Path("t"), facts, PETS.classes, PETS.name)
    assert differ(facts, PETS) == []


def test_a_subset_s_own_mean_is_no_difference() -> None:
    assert differ(facts_of(dataset(*PETS.classes, mean=0.504)), PETS) == []


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        ({"mean": 0.0}, ["mean [0] and std [0.2]", "mean [0.5]", "'teacher.mean=[0]'"]),
        ({"std": 1.0}, ["std [1]", "'teacher.std=[1]'"]),
        ({"side": 16}, ["measured on images of 16x16, here they are 8x8", "teacher.image_size"]),
    ],
)
def test_other_preprocessing_is_named(other: dict[str, Any], parts: list[str]) -> None:
    (note,) = differ(facts_of(dataset(*PETS.classes, **other)), PETS)
    assert [part for part in parts if part not in note] == []


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (("cat", "dog", "fish"), ("dog", "fish", "zcat")),
        (("top", "bag", "coat"), ("bag", "coat", "top")),
        (tuple(map(str, range(11))), tuple(sorted(map(str, range(11))))),
    ],
)
def test_classes_in_another_order_are_refused(
    there: tuple[str, ...], here: tuple[str, ...]
) -> None:
    facts = facts_of(dataset(*there))
    with pytest.raises(UserError, match=r"t\.pth has the classes in another order .*sort in its"):
        check_class_order(Path("t.pth"), facts, here, PETS.name)


def test_renamed_classes_are_told_unless_nobody_named_them() -> None:
    facts = facts_of(dataset("0_cat", "1_dog", "2_fish"))
    check_class_order(Path("t"), facts, PETS.classes, PETS.name)
    (note,) = differ(facts, PETS)
    assert "class 0 is '0_cat' to the teacher, and 'cat' here" in note
    assert differ(facts_of(dataset("0", "1", "2")), PETS) == []


def test_a_detector_of_other_classes_is_refused() -> None:
    facts = facts_of(dataset("cat", "dog", "owl"))
    other = r"t\.pth detects other categories .* pets: its class 2 is 'owl', and .* 'fish'"
    with pytest.raises(UserError, match=other):
        check_same_classes(Path("t.pth"), facts, ("cat", "dog", "fish"), "pets")
    for here in (("cat", "dog", "owl"), ("0", "1", "2"), ("cat", "dog")):
        check_same_classes(Path("t.pth"), facts, here, "pets")


@pytest.mark.parametrize(
    "fact", ["[" * 100_000, "{}", '"x"', "[null]", "[[1]]", "nan", "", 5, None, "[1e999, NaN]"]
)
def test_a_record_may_state_anything(fact: object) -> None:
    facts = dict.fromkeys(("mean", "std", "class_names", "image_size"), fact)
    check_class_order(Path("t"), facts, PETS.classes, PETS.name)
    differ(facts, PETS)


def test_the_record_is_in_the_metadata_and_beside_a_cached_file(tmp_path: Path) -> None:
    facts = facts_of(PETS)
    cached = save_imported(tmp_path, "imported-0123456789abcdef", {}, facts | {"sha256": "ab"})
    assert recorded_facts(cached, {})["class_names"] == list(PETS.classes)
    assert recorded_facts(tmp_path / "x.pth", {})["class_names"] is None
    assert b"fish" in teacher_bytes({}, facts)


@pytest.mark.parametrize(
    ("test_acc", "images", "is_near"),
    [(10.0, 10_000, True), (14.0, 10_000, True), (15.0, 10_000, False), (30.0, 12, True)],
)
def test_a_teacher_near_chance(test_acc: float, images: int, is_near: bool) -> None:
    facts = {"test_acc": test_acc, "chance": 10.0, "test_images": images}
    assert bool(chance_notes(facts)) == is_near
    assert all("10.00 % of guessing" in note for note in chance_notes(facts))
