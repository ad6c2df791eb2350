"""The file that `rkkd init` writes: an experiment that says of each key why, for any folder."""

import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.presets import load_experiment, preset_path, read_table
from rkkd_cli.config.validation import check_known_key
from rkkd_cli.data.folder_facts import FolderFacts
from rkkd_cli.data.headers import Headers
from rkkd_cli.errors import UserError
from rkkd_cli.models.bigger import bigger_model
from rkkd_cli.starter.choices import choices
from rkkd_cli.starter.chosen_models import chosen_student, chosen_teacher, typed_flags
from rkkd_cli.starter.commented import commented_preset
from rkkd_cli.starter.sizes import scale_for

USUAL = read_table(preset_path("my_images"))
SIDES = st.integers(1, 3000)
COUNTS = st.integers(0, 200_000)
MODELS = (None, "resnet20", "torchvision:resnet18", "mynet.py:MyNet")
# Texts that a path can have; a preset's other texts are names of models.
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@st.composite
def folders(draw: st.DrawFn) -> FolderFacts:
    sizes = Counter(draw(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5)))
    grey = draw(st.sampled_from([0, sizes.total()]))
    own_test = draw(st.sampled_from([None, "test"]))
    return FolderFacts(
        classes=draw(st.integers(2, 5000)),
        train=draw(st.integers(2, 2_000_000)),
        val=draw(COUNTS),
        test=draw(COUNTS),
        test_share=0.0 if own_test else 0.2,
        val_share=draw(st.sampled_from([0.0, 0.1])),
        own_test=own_test,
        has_own_val=draw(st.booleans()),
        headers=Headers(sizes.total(), sizes, (), grey),
        notes=(),
    )


def text_for(facts: FolderFacts, root: str, typed: dict[str, str]) -> str:
    scale = scale_for(facts.headers, typed.get("student.model"))
    student, teacher = chosen_student(typed, scale), chosen_teacher(typed, scale)
    return commented_preset(["head"], choices(facts, root, student, teacher, USUAL), "")


def loaded(folder: Path, text: str) -> Experiment:
    file = folder / "starter.toml"
    file.write_text(text, encoding="utf-8")
    return load_experiment(str(file))


@settings(max_examples=40)
@given(facts=folders(), root=PATHS, student=st.sampled_from(MODELS))
def test_the_file_is_the_experiment_that_it_says(
    facts: FolderFacts, root: str, student: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    typed = {} if student is None else {"student.model": student}
    text = text_for(facts, root, typed | {"teacher.model": "resnet56"})
    stated = flatten(tomllib.loads(text))
    experiment = loaded(tmp_path_factory.getbasetemp(), text)
    resolved = flatten(experiment.model_dump(mode="json"))
    for key, value in stated.items():
        check_known_key(key)
        if not (key == "dataset.root" and value.strip().lower() in ("none", "null")):
            assert resolved[key] == value, key
    assert experiment.dataset.root == root or root.strip().lower() in ("none", "null")
    assert experiment.training.batch_size <= facts.train
    assert {*experiment.arms} == {"kd", "kd_rank"}


@settings(max_examples=20)
@given(facts=folders())
def test_every_key_has_its_reason_above_it(facts: FolderFacts) -> None:
    lines, section = text_for(facts, "images", {}).splitlines(), ""
    for before, line in pairwise(lines):
        if line.startswith("["):
            section = line
        elif " = " in line and not line.startswith(("#", "title")):
            assert before.startswith("# ") or section == "[teacher.training]", line
        assert len(line) <= 100 or not line.startswith("#")


def facts_of(*sizes: tuple[int, int], images: int = 1000, classes: int = 10) -> FolderFacts:
    return FolderFacts(
        classes, images, 0, 100, 0.2, 0.0, None, False, Headers(len(sizes), Counter(sizes), ()), ()
    )


@pytest.mark.parametrize(
    ("facts", "student", "expected"),
    [
        (facts_of((32, 32)), None, (32, "resnet8", "resnet20", 64, 0.05)),
        (facts_of((28, 28), images=200), None, (28, "resnet8", "resnet20", 16, 0.0125)),
        (facts_of((96, 96)), None, (96, "resnet8", "resnet20", 64, 0.05)),
        (facts_of((70, 90), (80, 100)), None, (64, "resnet8", "resnet20", 64, 0.05)),
        (facts_of((500, 375), (333, 500)), None,
         (224, "torchvision:resnet18", "torchvision:resnet50", 32, 0.0125)),
        (facts_of((500, 375), (333, 500)), "resnet20", (64, "resnet20", "resnet44", 64, 0.05)),
        (facts_of((32, 32)), "torchvision:mobilenet_v3_small",
         (32, "torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_large", 32, 0.0125)),
    ],
)  # fmt: skip
def test_sizes_models_and_recipe_fit_the_images(
    facts: FolderFacts, student: str | None, expected: tuple[object, ...], tmp_path: Path
) -> None:
    made = loaded(
        tmp_path, text_for(facts, "images", {} if student is None else {"student.model": student})
    )
    recipe = made.training
    models = made.student.model, made.teacher.model
    assert (made.dataset.image_size, *models, recipe.batch_size, recipe.lr) == expected
    is_library = made.student.model.startswith("torchvision:")
    resampled = 224 if is_library and made.dataset.image_size == 32 else None
    assert made.student.image_size == made.teacher.image_size == resampled


def test_many_images_are_streamed_in_fewer_epochs_and_many_classes_ranked_by_the_top(
    tmp_path: Path,
) -> None:
    few = loaded(tmp_path, text_for(facts_of((32, 32)), "images", {}))
    many = loaded(
        tmp_path, text_for(facts_of((300, 400), images=100_000, classes=2000), "images", {})
    )
    assert (few.dataset.streaming, many.dataset.streaming) == (False, True)
    assert few.training.epochs > many.training.epochs
    assert len(few.seeds) > len(many.seeds) == 3
    assert (few.rank.channels, many.rank.channels) == ("all", "top:64")


def test_code_is_named_by_no_file_but_by_the_command() -> None:
    typed = {"student.model": "mynet.py:MyNet", "student.weights": "my.pt"}
    text = text_for(facts_of((32, 32)), "images", typed)
    values = flatten(tomllib.loads(text))
    assert values["student.model"] == "resnet8"
    assert "student.weights" not in values
    assert typed_flags(typed) == ["--student", "mynet.py:MyNet", "--student-weights", "my.pt"]
    assert "--student mynet.py:MyNet" in text


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("resnet8x4", "resnet32x4"),
        ("wrn_16_2", "wrn_40_2"),
        ("MobileNetV2", "MobileNetV2x2"),
        ("torchvision:vit_b_16", "torchvision:vit_l_16"),
        ("torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_large"),
    ],
)
def test_a_bigger_model_is_of_the_same_kind(student: str, teacher: str) -> None:
    assert bigger_model(student) == teacher


def test_the_largest_of_its_kind_has_no_teacher() -> None:
    with pytest.raises(UserError, match="name one with --teacher: rkkd ls models torchvision"):
        bigger_model("torchvision:alexnet")
