"""What is said of a run: whether seeds are missing, its setting, how to repeat it."""

from dataclasses import replace
from typing import Any

import pytest
from report_runs import made_run

from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import override_experiment
from rkkd_cli.records.manifest import EarlyEnd
from rkkd_cli.report.page.facts import repeat_of
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.run_text import unfinished_text, unfinished_texts
from rkkd_cli.report.setting_text import recipe_text, setting_lines

COST = dict.fromkeys(("projector_parameters", "projector_macs", "training_parameters"), 0)
IMAGES = {
    "name": "folder", "train_images": 40, "val_images": 0, "test_images": 20, "classes": 2,
    "image_shape": [3, 32, 32], "fingerprint": "f" * 64, "class_names": ["daisy", "rose"],
}  # fmt: skip
TEACHER = {
    "model": "a:T",
    "source": "checkpoint",
    "test_acc": 90.0,
    "parameters": 9,
    "sha256": "abc",
}


def run_with(*words: str, status: str = "interrupted", **manifest: Any) -> PageRun:
    """Return a run of 3 seeds × 12 epochs with overrides and facts of its manifest."""
    run = made_run()
    experiment = override_experiment(run.experiment, [*map(parse_override, words)])
    return replace(
        run,
        experiment=experiment,
        manifest=run.manifest.model_copy(update=manifest),
        status=status,
    )


def test_a_whole_run_has_no_banner() -> None:
    assert unfinished_text(run_with("training.epochs=12", status="finished")) is None


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("seeds=0:6",), "interrupted", "3 of 6 seeds, interrupted. Missing: seeds 3, 4, 5."),
        (("seeds=0:4",), "dead", "3 of 4 seeds, its process has died. Missing: seed 3."),
        (
            (),
            "running",
            "0 of 3 seeds, still running. Missing: seeds 0 (at epoch 12 of 30), "
            "1 (at epoch 12 of 30), 2 (at epoch 12 of 30).",
        ),
        (
            ("arms.late.rank.grad=true",),
            "failed",
            "6 of 9 arms and seeds, failed. Missing: late, seed 0, 1, 2.",
        ),
    ],
)
def test_each_missing_seed_is_named(words: tuple[str, ...], status: str, text: str) -> None:
    epochs = ("training.epochs=12",) if words else ()
    run = run_with(*epochs, *words, status=status)
    assert unfinished_text(run) == f"Not finished: {text}"
    assert unfinished_texts([run, run]) == [f"made: Not finished: {text}"] * 2


def test_a_seed_that_ended_early_is_not_missing() -> None:
    ends = [
        EarlyEnd(arm=arm, seed=seed, epoch=12, monitor="val_acc", best=1.0, best_epoch=2)
        for arm in ("kd", "kd_rank")
        for seed in range(3)
    ]
    run = run_with("training.epochs=20", ended_early=ends)
    assert unfinished_text(run) is None


def test_the_setting_names_classes_students_recipe_objectives_and_duration() -> None:
    students = {arm: {"parameters": 1234, "macs": 5_600_000, **COST} for arm in ("kd", "kd_rank")}
    run = run_with(
        datasets=[IMAGES], teachers=[TEACHER], students=students, objectives={"kd": "0.1·ce"},
        ended="2026-01-01T01:02:03+00:00",
    )  # fmt: skip
    own_title = run.experiment.model_copy(update={"title": "Mine", "based_on": "rank_grad"})
    lines = setting_lines(own_title, run.manifest)
    for line in (
        "based on rank_grad",
        "classes daisy, rose",
        "student digits_student: 1,234 parameters, 5.6 million multiply-adds an image",
        "training 30 epochs, batch size 64, SGD (momentum 0.9), learning rate 0.02, × 0.1 after "
        "epoch 19, 22, 26, weight decay 0.0005",
        "objective kd: 0.1·ce",
        "duration 1:02:03",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            "training.per_class=4 training.batch_size=40 training.batches_per_epoch=20",
            "batch size 40 of 10 classes × 4, 20 an epoch",
        ),
        (
            "task=detection dataset.name=digits_scenes teacher.model=fasterrcnn:resnet20 "
            "student.model=fasterrcnn:resnet8 training.batches_per_epoch=10000",
            "batch size 64, 10,000 batches an epoch",
        ),
        ("training.optimizer=adamw", "AdamW, learning rate"),
        ("training.schedule=cosine", "falling to 0 along a cosine"),
        ("training.schedule=constant", "learning rate 0.02, constant"),
        ("training.nesterov=true", "SGD (Nesterov momentum 0.9)"),
        ("training.epochs=1", "1 epoch, batch size 64"),
    ],
)
def test_a_recipe_says_what_is_used(words: str, part: str) -> None:
    assert part in recipe_text(run_with(*words.split()).experiment.training)


def test_to_repeat_a_run_its_own_things_are_named() -> None:
    words = (
        "dataset.name=folder", "dataset.root=flowers", "teacher.weights=teacher.pth",
        "student.model=mynet.py:MyNet",
    )  # fmt: skip
    code = {"mynet.py": "c" * 64}
    repeat = repeat_of(run_with(*words, datasets=[IMAGES], teachers=[TEACHER], code=code))
    assert repeat.command == "rkkd run made-experiment.toml student.model=mynet.py:MyNet"
    images, weights, own, versions = repeat.needs
    assert images == f"the images in flowers, with fingerprint {'f' * 16}…"
    assert weights == "the teacher's weights teacher.pth (SHA-256 abc…)"
    assert own == f"own code: mynet.py (SHA-256 {'c' * 16}…); copies are in the run's folder code/"
    assert versions == "for the same bits: rkkd 0.1.0 and torch ?, on cpu"
