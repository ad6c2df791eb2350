"""What is allowed, but probably not meant: said, and recorded with the run."""

from pathlib import Path

import pytest
from running import EMBEDDING_KEYS

from rkkd_cli.config.experiment import MethodConfig
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment, preset_names
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.doubts import doubts, unused_settings


@pytest.mark.parametrize("preset", preset_names())
def test_no_preset_has_a_setting_without_effect(preset: str) -> None:
    arms = load_experiment(preset).resolved_arms
    assert list(unused_settings([arm.experiment.method for arm in arms])) == []


@pytest.mark.parametrize(
    ("tables", "sentences"),
    [
        ([{"name": "dkd", "dkd": {"beta": 2.0}}], []),
        ([{"name": "dkd"}, {"name": "kd", "dkd": {"beta": 2.0}}], []),
        ([{"name": "kd", "dkd": {"beta": 2.0}}], ["the settings method.dkd have no effect"]),
        ([{"name": "kd", "plugin": {"a": 2}}], ["no arm has a method of your own"]),
        ([{"name": "mine.py:Own", "plugin": {"a": 2}, "alpha": 0.5}], []),
        ([{"name": "dkd", "alpha": 0.5}], ["method.alpha = 0.5 has no effect"]),
        ([{"name": "dkd", "alpha": 0.5}, {"name": "soft_ce"}], []),
        ([{"name": "kd", "alpha": 0.5, "ce_weight": 1.0}], []),
        ([{"name": "kd", "alpha": 0.5, "ce_weight": 1.0, "kl_weight": 1.0}], ["method.alpha"]),
    ],
)
def test_settings_that_no_arm_reads_are_told(
    tables: list[dict[str, object]], sentences: list[str]
) -> None:
    told = list(unused_settings([MethodConfig.model_validate(table) for table in tables]))
    assert len(told) == len(sentences)
    assert all(part in sentence for part, sentence in zip(sentences, told, strict=True))


def test_a_batch_larger_than_the_split_is_told(cache: Path) -> None:
    words = ("training.batch_size=50", "teacher.training.batch_size=51", "dataset.limit_train=50")
    experiment = load_experiment("rank_grad", [parse_override(word) for word in words])
    assert doubts(check_experiment(experiment, cache)) == [
        "teacher.training.batch_size = 51 is more than the 50 training images of digits: each "
        "pass over them is a single step"
    ]


@pytest.mark.parametrize(("grad", "told"), [("false", 1), ("true", 0)])
def test_weights_of_a_ranking_loss_that_is_only_logged_are_told(
    grad: str, told: int, cache: Path
) -> None:
    arms = "arms={a={rank={weight=0.5}}, b={rank={weight=1.0}}}"
    given = [parse_override(word) for word in (arms, f"rank.grad={grad}")]
    sentences = doubts(check_experiment(load_experiment("rank_grad", given), cache))
    assert len([one for one in sentences if "rank.weight make no difference" in one]) == told


def test_embeddings_tested_on_what_they_are_trained_on_are_told(cache: Path) -> None:
    given = [parse_override(word) for word in (*EMBEDDING_KEYS, "method.name=rkd")]
    (told,) = doubts(check_experiment(load_experiment("rank_grad", given), cache))
    assert "tested on the classes of digits that they are trained on" in told
    assert doubts(check_experiment(load_experiment("rkd_metric_digits"), cache)) == []


def test_a_transformer_of_small_images_is_told(cache: Path) -> None:
    pytest.importorskip("timm")
    words = ("student.model=timm:test_vit", "student.options.patch_size=4")
    experiment = load_experiment("rank_grad", [parse_override(word) for word in words])
    large = load_experiment(
        "rank_grad", [parse_override(word) for word in (*words, "student.image_size=32")]
    )
    (told,) = doubts(check_experiment(experiment, cache))
    assert "timm:test_vit is made for 160×160 images and is built for 8×8 here" in told
    assert "student.image_size=160" in told
    assert doubts(check_experiment(large, cache)) == []
