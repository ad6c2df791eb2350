"""Runs that learn from a teacher's top logits and the mass of the rest: cache_teacher = top:K."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trained import NEVER, Row, checkpoints_of, events_of, experiment_with, going_on, rows_of

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.losses import (
    kendall_ranking_loss,
    kendall_tau_b,
    tail_bin_kl_divergence,
    top_logits,
)
from rkkd_cli.methods import ModelPair, Objective, build_objective
from rkkd_cli.models.zoo.small import cnn2
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.doubts import doubts
from rkkd_cli.sweep.logit_cache import cached_streams, evict
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.train.events import Note
from rkkd_cli.train.metrics.batch import measure
from rkkd_cli.train.metrics.gradients import GRADIENT_MEANS, diagnose, gradient_columns
from rkkd_cli.train.stop_controller import StopController

ARMS: dict[str, dict[str, Any]] = {
    "kd": {},
    "kd_rank": {"rank": {"grad": True}},
    "hot": {"method": {"temperature": 8.0}, "rank": {"channels": "top:3"}},
    "ce": {"method": {"name": "ce"}},
    "soft": {"method": {"name": "soft_ce"}},
}
TOP = "cache_teacher=top:4"


@pytest.fixture
def empty(cache: Path) -> Path:
    """The cache of all tests, with teachers but without outputs."""
    evict(cache, "all")
    return cache


def rows(cache: Path, *overrides: str, arms: dict[str, dict[str, Any]] = ARMS) -> list[Row]:
    return rows_of(events_of(experiment_with(*overrides, arms=arms), cache))


def test_a_run_has_the_same_rows_whether_it_writes_the_files_or_reads_them(empty: Path) -> None:
    writing = events_of(experiment_with(TOP, arms=ARMS), empty)
    (kept,) = cached_streams(empty)
    assert len(kept.files) == 2
    reading = events_of(experiment_with(TOP, arms=ARMS), empty)
    assert rows_of(writing) == rows_of(reading)
    said = [event.text for event in reading if isinstance(event, Note)]
    size = "(32 bytes an image, and 40 for all logits)"  # 4 · (2 + 4) + 2 · 4
    assert any("2 of 2 epochs are kept" in text and size in text for text in said)


def test_a_run_that_goes_on_within_an_epoch_has_the_same_rows(empty: Path) -> None:
    arms = {name: ARMS[name] for name in ("kd_rank", "hot")}
    experiment = experiment_with(TOP, arms=arms)
    events = events_of(experiment, empty, controller=StopController(0))
    for place, checkpoint in checkpoints_of(events)[1::5]:
        for files_are_there in (True, False):
            if not files_are_there:
                evict(empty, "all")
            states = going_on(checkpoint)
            rest = events_of(experiment, empty, states, controller=StopController(NEVER))
            assert rows_of(events[:place]) + rows_of(rest) == rows_of(events)


def test_arms_do_not_touch_each_other(empty: Path) -> None:
    together = rows(empty, TOP)
    for name in ("kd", "hot"):
        alone = rows(empty, TOP, arms={name: ARMS[name]})
        assert alone == [row for row in together if row["arm"] == name]
    assert len(cached_streams(empty)) == 3  # of T = 4 and 8, of 4, of 8


def test_all_classes_but_one_are_all_that_kl_needs(empty: Path) -> None:
    arms = {name: ARMS[name] for name in ("kd", "ce", "soft")}
    columns = ("ce", "kl", "agreement", "train_acc", "test_acc", "test_kl", "grad_norm_kl")
    for kept, whole in zip(
        rows(empty, "cache_teacher=top:9", arms=arms), rows(empty, arms=arms), strict=True
    ):
        for name in columns:
            assert kept[name] == pytest.approx(whole[name], rel=1e-4), name


def test_fewer_classes_change_what_is_recorded_in_training_and_not_on_the_test_images(
    empty: Path,
) -> None:
    arms = {"ce": ARMS["ce"]}  # whose student no teacher changes
    for kept, whole in zip(rows(empty, TOP, arms=arms), rows(empty, arms=arms), strict=True):
        differ = {name for name in kept if kept[name] != whole[name]}
        assert {"kl", "rank", "kendall_tau", "grad_norm_kl"} <= differ
        assert not differ & {"ce", "train_acc", "agreement", "test_kl", "test_rank", "test_acc"}
        assert kept["kl"] < whole["kl"]
        assert kept["grad_low_share_kl"] is kept["grad_low_share_teacher"] is None


def test_stacked_arms_learn_the_same_up_to_rounding(empty: Path) -> None:
    arms = {name: ARMS[name] for name in ("kd", "kd_rank")}
    apart, stacked = (rows(empty, TOP, f"stacked={one}", arms=arms) for one in ("false", "true"))
    for one, other in zip(apart, stacked, strict=True):
        assert one["kl"] == pytest.approx(other["kl"], rel=1e-3)
        assert one["rank"] == pytest.approx(other["rank"], abs=1e-2)


def test_bfloat16_and_mixed_images_are_read_as_they_were_written(empty: Path) -> None:
    others = TOP, "precision=bf16", "dataset.mixup_alpha=0.8"
    assert rows(empty, *others) == rows(empty, *others)


def test_a_damaged_file_is_told_and_the_rows_stay(empty: Path) -> None:
    arms = {"kd": ARMS["kd"]}
    undisturbed = rows(empty, TOP, arms=arms)
    (kept,) = cached_streams(empty)
    content = bytearray(kept.files[0].read_bytes())
    content[-3] ^= 1
    kept.files[0].write_bytes(content)
    events = events_of(experiment_with(TOP, arms=arms), empty)
    assert rows_of(events) == undisturbed
    assert any("is damaged" in event.text for event in events if isinstance(event, Note))


PAIR = ModelPair(cnn2(10, 1), cnn2(10, 1), 1, (8, 8), torch.arange(10))


def objective(temperature: float, **rank: float | str) -> Objective:
    return build_objective(
        MethodConfig(temperature=temperature), RankConfig.model_validate(rank), PAIR
    )


def logits(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(shape[0])
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


OBJECTIVES = [objective(1.0), objective(4.0, steepness=2.0), objective(4.0, channels="top:3")]


def test_what_is_recorded_is_what_the_losses_say_of_what_is_kept() -> None:
    students, teacher = logits(3, 5, 10), logits(5, 10)
    kept = top_logits(teacher, 4, (1.0, 4.0))
    hard = [one.hard for one in OBJECTIVES]
    targets = Targets(torch.arange(5))
    measured = measure(CLASSIFICATION_TASK, OBJECTIVES, hard, [students], kept, targets)
    whole = measure(CLASSIFICATION_TASK, OBJECTIVES, hard, [students], teacher, targets)
    assert torch.equal(measured.counts["agreement"], whole.counts["agreement"])
    torch.testing.assert_close(measured.means[:, 0], whole.means[:, 0])
    for one, student, means in zip(OBJECTIVES, students, measured.means, strict=True):
        of_kept = student.gather(1, kept.indices), kept.logits
        expected = [
            tail_bin_kl_divergence(student, kept, one.temperature),
            kendall_ranking_loss(*of_kept, **one.ranking.settings._asdict()),
            kendall_tau_b(*of_kept),
        ]
        torch.testing.assert_close(means[1:], torch.stack(expected))


def test_so_are_the_gradients_that_are_diagnosed() -> None:
    students, teacher = logits(3, 5, 10), logits(5, 10)
    kept = top_logits(teacher, 4, (1.0, 4.0))
    diagnosed = diagnose(OBJECTIVES, students, kept)
    for one, student, means in zip(OBJECTIVES, students, diagnosed.tolist(), strict=True):
        leaf = student.clone().requires_grad_()
        losses = (
            tail_bin_kl_divergence(leaf, kept, one.temperature),
            one.ranking(*kept.pair(leaf)),
        )
        kl, rank = (5 * torch.autograd.grad(loss, leaf)[0] for loss in losses)
        columns = gradient_columns(dict(zip(GRADIENT_MEANS, means, strict=True)))
        assert columns["grad_norm_kl"] == pytest.approx(float(kl.norm()) / 5**0.5)
        assert columns["grad_norm_rank"] == pytest.approx(float(rank.norm()) / 5**0.5)
        cosine = float((kl * rank).sum() / (kl.norm() * rank.norm()))
        assert columns["grad_cosine"] == pytest.approx(cosine)
        shares = [name for name in columns if name.startswith("grad_low_share")]
        assert [columns[name] for name in shares] == [None] * 3


@pytest.mark.parametrize(
    ("words", "reader"),
    [
        (["method.name=dkd"], "method dkd"),
        (["method.name=dist"], "method dist"),
        (["method.name=pld"], "method pld"),
        (["method.name=ctkd"], "method ctkd"),
        (["method.standardize_logits=true"], r"method\.standardize_logits"),
        (["rank.standardize=true"], r"rank\.standardize"),
        (["rank.over=images"], r"rank\.over = images"),
        (["rank.channels=top:0.4"], r"rank\.channels = top:0\.4"),
        (["rank.channels=top:5"], r"rank\.channels = top:5"),
        (["rank.channels=bottom:2"], r"rank\.channels = bottom:2"),
        (["rank.channels=union:3"], r"rank\.channels = union:3"),
    ],
)
def test_what_needs_all_logits_is_refused_before_the_run(
    words: list[str], reader: str, cache: Path
) -> None:
    with pytest.raises(
        UserError,
        match=f"arm .*: {reader} needs more than the logits of the teacher's top 4 classes",
    ):
        check_experiment(experiment_with(TOP, *words), cache)


def test_features_and_as_many_classes_as_there_are_are_refused(cache: Path) -> None:
    with pytest.raises(UserError, match="method sp uses more of the teacher than its logits"):
        check_experiment(experiment_with(TOP, "method.name=sp"), cache)
    for count in (10, 64):
        with pytest.raises(UserError, match="the dataset has 10; use cache_teacher=exact"):
            check_experiment(experiment_with(f"cache_teacher=top:{count}"), cache)


def test_a_run_is_told_what_its_columns_of_training_are(cache: Path) -> None:
    (sentence,) = doubts(check_experiment(experiment_with(TOP, "rank.channels=top:4"), cache))
    assert "kl in training is over 4 of 10 classes and one bin for the others" in sentence
    assert doubts(check_experiment(experiment_with("cache_teacher=exact"), cache)) == []


def test_a_file_has_a_row_for_each_image(empty: Path) -> None:
    rows(empty, TOP, arms={"kd": ARMS["kd"]})
    (kept,) = cached_streams(empty)
    content = np.load(kept.files[0], allow_pickle=False)
    assert content.dtype.names == ("classes", "logits", "rest")
    assert content["classes"].max() < 10
    assert (np.diff(content["logits"], axis=1) <= 0).all()
    assert (content["rest"][:, 0] <= content["logits"][:, -1]).all()
