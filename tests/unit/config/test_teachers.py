"""Several teachers in files and on the command line, and what an arm says that it learns from."""

from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.config.description import subject_of
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment, read_experiment, to_toml
from rkkd_cli.config.untrusted import named_code
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import group_by_stream

PRESET = """
[dataset]
name = "digits"
[[teachers]]
model = "resnet8"
training = { epochs = 2, lr = 0.1 }
[[teachers]]
model = "resnet8"
seed = 1
training = { epochs = 2, lr = 0.1 }
[[teachers]]
name = "small"
model = "cnn2"
training = { epochs = 2, lr = 0.1 }
[student]
model = "digits_student"
[training]
epochs = 2
lr = 0.1
"""


def written(folder: Path, text: str = PRESET) -> str:
    path = folder / "several.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def loaded(folder: Path, *overrides: str, text: str = PRESET) -> Experiment:
    return load_experiment(written(folder, text), [parse_override(one) for one in overrides])


def with_arms(**targets: Any) -> str:
    return PRESET + "".join(f"[arms.{arm}]\nmethod.teacher = {t}\n" for arm, t in targets.items())


def test_a_teacher_is_called_as_it_says_or_as_its_model(tmp_path: Path) -> None:
    experiment = loaded(tmp_path)
    assert [*experiment.teachers] == ["resnet8", "resnet8_2", "small"]
    assert [one.seed for one in experiment.teachers.values()] == [0, 1, 0]
    assert subject_of(experiment) == (
        "digits: resnet8 + resnet8_2 + small → digits_student, 2 epochs"
    )
    own = PRESET.replace('"cnn2"', '"my.nets:My-Net"').replace('name = "small"\n', "")
    given = ("teachers.My_Net.model=my.nets:My-Net", "seeds=[0]")
    assert [*loaded(tmp_path, *given, text=own).teachers][-1] == "My_Net"


def test_arms_that_say_nothing_are_the_usual_two_and_learn_from_the_mean(tmp_path: Path) -> None:
    experiment = loaded(tmp_path)
    assert [*experiment.arms] == ["kd", "kd_rank"]
    assert {arm.experiment.method.teacher for arm in experiment.resolved_arms} == {
        "mean_probabilities"
    }
    (one,) = loaded(tmp_path, "teachers.resnet8=none", "teachers.resnet8_2=none").teachers
    assert one == "small"
    alone = loaded(tmp_path, "teachers.resnet8=none", "teachers.resnet8_2=none")
    assert (alone.method.teacher, alone.method.shares) == ("small", {"small": 1.0})


def test_the_teacher_of_an_arm_is_what_it_learns_from_and_all_share_a_stream(
    tmp_path: Path,
) -> None:
    shares = "{ resnet8 = 7, small = 3 }"
    text = with_arms(a='"small"', b='"resnet8_2"', c='"mean_logits"', d=shares)
    arms = loaded(tmp_path, text=text).resolved_arms
    teachers = [arm.experiment.teacher for arm in arms]
    assert [(teacher.model, teacher.seed) for teacher in teachers] == [
        ("cnn2", 0), ("resnet8", 1), ("resnet8", 0), ("resnet8", 0),
    ]  # fmt: skip
    typed = loaded(tmp_path, "method.teacher={ resnet8 = 7, small = 3 }")
    assert typed.method == arms[3].experiment.method
    assert arms[3].experiment.method.shares == {"resnet8": 0.7, "small": 0.3}
    assert len(group_by_stream(arms)) == 1


def test_one_teacher_can_be_changed_or_varied_and_then_rides_on_another_stream(
    tmp_path: Path,
) -> None:
    changed = loaded(tmp_path, "teachers.small.seed=7", "teachers.more.model=cnn2")
    assert (changed.teachers["small"].seed, changed.teachers["resnet8"].seed) == (7, 0)
    assert [*changed.teachers][-1] == "more"
    varied = loaded(tmp_path, "vary={teachers.small.seed=[0,1]}", "method.teacher=small")
    seeds = [arm.experiment.teachers["small"].seed for arm in varied.resolved_arms]
    assert sorted(seeds) == [0, 0, 1, 1]
    assert len(group_by_stream(varied.resolved_arms)) == 2


def test_what_is_recorded_is_read_back_equal(tmp_path: Path) -> None:
    text = with_arms(a='"small"', b="{ resnet8 = 1, resnet8_2 = 1, small = 1 }")
    experiment = loaded(tmp_path, text=text)
    path = tmp_path / "experiment.toml"
    path.write_text(to_toml(experiment), encoding="utf-8")
    assert "[teacher]" not in path.read_text(encoding="utf-8")
    assert read_experiment(path) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_what_was_called_checkpoint_is_read_as_weights(tmp_path: Path) -> None:
    text = PRESET.replace('model = "cnn2"', 'model = "cnn2"\ncheckpoint = "a.pt"')
    text += '[arms.a]\nteachers.resnet8.checkpoint = "b.pt"\n'
    experiment = loaded(tmp_path, "teachers.resnet8_2.checkpoint=c.pt", text=text)
    (arm,) = experiment.resolved_arms
    weights = {name: one.weights for name, one in arm.experiment.teachers.items()}
    assert weights == {"resnet8": "b.pt", "resnet8_2": "c.pt", "small": "a.pt"}


def test_an_experiment_with_one_teacher_is_written_as_before() -> None:
    table = load_experiment("rank_grad").model_dump(exclude_none=True)
    assert "teachers" not in table
    assert "teacher" not in table["method"]


def test_code_that_a_file_names_among_its_teachers_is_refused(tmp_path: Path) -> None:
    text = PRESET.replace('"cnn2"', '"evil.py:Net"')
    with pytest.raises(UserError, match=r"teachers\.small\.model = 'evil\.py:Net' names code"):
        loaded(tmp_path, text=text)
    hidden = PRESET + '[arms.a]\nteachers = [{ model = "evil.py:Net" }]\n'
    with pytest.raises(UserError, match="teachers"):
        loaded(tmp_path, text=hidden)
    nested = PRESET + '[arms.a]\nteachers.small.model = "evil.py:Net"\n'
    with pytest.raises(UserError, match=r"arms\.a\.teachers\.small\.model = .* names code"):
        loaded(tmp_path, text=nested)
    typed = loaded(tmp_path, "teachers.small.model=mine.py:Net")
    assert ("model", "mine.py:Net") in named_code([typed])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["method.teacher=smal"], "method.teacher: unknown teacher 'smal'; did you mean 'small'"),
        (["method.teacher={smal=1}"], "unknown teacher 'smal'; did you mean 'small'"),
        (["method.teacher={mean_logits=1}"], "unknown teacher 'mean_logits'"),
        (["method.teacher={small=-0.5, resnet8=1}"], "small must be a number from 0 on; got -0.5"),
        (["method.teacher={small=true}"], "small must be a number from 0 on; got True"),
        (["method.teacher={small=0.0, resnet8=0}"], "the weights sum to 0; make one of them"),
        (["method.teacher={}"], "must be the name of a teacher, mean_logits or mean_prob"),
        (["method.teacher=3"], "method.teacher = 3: must be the name of a teacher"),
        (["teacher.model=cnn2"], "several teachers, resnet8, resnet8_2, small; set teachers.res"),
        (["teachers.smal.seed=1"], "unknown teacher 'smal'; did you mean 'small'"),
        (["teachers.small.sed=1"], "'teachers.small.sed'; did you mean 'teachers.small.seed'"),
        (["teachers.mean_logits.model=cnn2"], "which are not mean_logits or mean_probabilities"),
        (["teachers.a-b.model=cnn2"], "letters, digits and _, at most 64, .* got 'a-b'"),
        (["teachers=3"], "teachers = 3: must be a section with keys of its own"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    overrides: list[str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        loaded(tmp_path, *overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (PRESET + '[teacher]\nmodel = "cnn2"\n', "teacher and teachers .* are both given"),
        (PRESET + '[arms.a]\nteacher.model = "cnn2"\n', "arm 'a': teacher and teachers .* both"),
        (PRESET.replace("seed = 1", 'name = "small"'), "two teachers have the name 'small'"),
        (PRESET.replace('"small"', "3"), "a teacher has the name 3, which is no text"),
        (PRESET.replace('model = "cnn2"\n', ""), r"teachers\.small\.model is missing"),
        (with_arms(a='"large"'), "arm 'a': method.teacher: unknown teacher 'large'"),
    ],
)
def test_what_a_file_cannot_say_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        loaded(tmp_path, text=text)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("method.teacher=small", "chooses among several teachers, and the experiment has one"),
        ("teachers.small.seed=1", "the experiment has one teacher; set teacher.seed"),
        ("teachers.small.model=cnn2", "teacher and teachers .small. are both given; keep one"),
    ],
)
def test_an_experiment_with_one_teacher_has_no_choice(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_experiment("rank_grad", [parse_override(override)])
