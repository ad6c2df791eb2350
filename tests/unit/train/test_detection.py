"""Detectors in lockstep: torchvision's own steps, arms apart, resumed, on two ranks."""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import CPU, Arms, Row, checkpoints_of, events_of, going_on, rows_by_arm, rows_of

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.config.tasks import DETECTOR_TERMS
from rkkd_cli.data.detection.stream import DetectionStream
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.sweep.datasets import load
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Detected, Event, TeacherBatch
from rkkd_cli.train.regions import TaughtScenes
from rkkd_cli.train.rng import IsolatedRng
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.taught_batch import FeatureNeeds
from rkkd_cli.train.teacher.model import DetectorTeacher, freeze, teach

Together = Callable[..., list[Any]]

SMALL = (
    "anchor_sizes=[24,48,64]", "out_channels=8", "representation_size=16",
    "rpn_pre_nms_top_n_train=40", "rpn_post_nms_top_n_train=20", "rpn_pre_nms_top_n_test=20",
    "rpn_post_nms_top_n_test=10", "box_batch_size_per_image=16",
)  # fmt: skip
QUICK = (
    *(f"{role}.options.{option}" for role in ("student", "teacher") for option in SMALL),
    "student.model=fasterrcnn:cnn2", "teacher.model=fasterrcnn:resnet8",
    "dataset.limit_train=7", "dataset.limit_test=5", "training.batch_size=3",
    "training.epochs=2", "training.warmup_epochs=0",
    "teacher.training.epochs=1", "teacher.training.warmup_epochs=0",
    "teacher.training.batch_size=3", "seeds=[0]",
)  # fmt: skip
ARMS: Arms = {
    "ce": {"method": {"name": "ce"}},
    "kd_rank": {"rank": {"grad": True}},
    "fitnet": {"method": {"name": "fitnet", "fitnet": {"hint_layer": 0}}},
    "dkd": {"method": {"name": "dkd"}},
    "reviewkd": {"method": {"name": "reviewkd", "reviewkd": {"warmup_epochs": 0}}},
}


def experiment_with(*overrides: str, arms: Arms = ARMS) -> Experiment:
    given = [parse_override(text) for text in (*QUICK, *overrides)]
    table = load_experiment("detection_scenes", given)
    return table.model_copy(update={"arms": dict(arms)})


@pytest.fixture(scope="module")
def company(cache: Path) -> list[Event]:
    return [*events_of(experiment_with(), cache)]


def test_an_arm_without_distillation_steps_as_torchvisions_own_training_does() -> None:
    from torchvision.models.detection.image_list import ImageList

    sgd_alone = (
        "training.optimizer=sgd", "training.lr=0.02", "training.weight_decay=1e-4",
        "training.clip_grad_norm=none", "training.schedule=constant",
    )  # fmt: skip
    experiment = experiment_with(*sgd_alone, arms={"ce": ARMS["ce"]})
    (arm,) = experiment.resolved_arms
    dataset = load(experiment, Path())
    stream = DetectionStream(dataset, CPU, 3, seed=0)  # type: ignore[arg-type]
    teacher = frozen_teacher(experiment, dataset)
    own = ArmOnStream(arm, 0, teacher, torch.empty(0))
    assert isinstance(own.student, Detector)
    theirs = copy.deepcopy(own.student)
    network = theirs.network.train()
    sgd = torch.optim.SGD(network.parameters(), 0.02, 0.9, weight_decay=1e-4)
    rng = IsolatedRng(derive_seed(0, "arm"), CPU)
    own.set_rates(0.0)
    for batch in stream.epoch(1):
        own.step(teach(teacher, batch, FeatureNeeds(False, False)))
        images = ImageList(batch.images, list(batch.sizes))
        targets = [{"boxes": one.boxes, "labels": one.labels + 1} for one in batch.objects]
        with rng.active():
            maps = network.backbone(batch.images)
            proposals, of_proposals = network.rpn(images, maps, targets)
            _, of_regions = network.roi_heads(maps, proposals, padded(batch.images), targets)
            sgd.zero_grad()
            torch.autograd.backward(sum({**of_regions, **of_proposals}.values()))
            sgd.step()
    for name, weights in theirs.state_dict().items():
        torch.testing.assert_close(own.student.state_dict()[name], weights, rtol=0, atol=1e-6)


def padded(images: torch.Tensor) -> list[tuple[int, int]]:
    """The sizes by which the strides of the maps are whole."""
    return [(images.shape[2], images.shape[3])] * len(images)


def frozen_teacher(experiment: Experiment, dataset: Any) -> DetectorTeacher:
    from rkkd_cli.tasks import task_for
    from rkkd_cli.train.configured_model import model_input, new_model

    takes = model_input(experiment.teacher, dataset.image_format)
    model = new_model(experiment.teacher, len(dataset.classes), takes.own)
    classes, task = len(dataset.classes), task_for(experiment)
    teacher = freeze(model, CPU, "fp32", classes, takes, task)
    assert isinstance(teacher, DetectorTeacher)
    return teacher


@pytest.mark.parametrize("name", [*ARMS])
def test_no_arm_changes_a_number_of_another(name: str, cache: Path, company: list[Event]) -> None:
    alone = rows_by_arm(events_of(experiment_with(arms={name: ARMS[name]}), cache))
    assert alone[name] == rows_by_arm(company)[name]


def test_terms_and_metrics_are_recorded(company: list[Event]) -> None:
    rows = rows_by_arm(company)
    for name in ARMS:
        assert [row["epoch"] for row in rows[name]] == [1, 2]
        for row in rows[name]:
            assert {"box", "rpn_objectness", "rpn_box", "agreement", "test_ap"} <= row.keys()
            assert -1 <= row["test_rank"] <= 1
            assert row["test_kl"] >= 0
    assert all("tckd" in row for row in rows["dkd"])


@pytest.mark.slow
def test_from_a_checkpoint_at_any_batch_the_same_rows_follow(
    cache: Path, company: list[Event]
) -> None:
    experiment, expected = experiment_with(), rows_by_arm(company)
    events = events_of(experiment, cache, controller=StopController(0))
    for _, checkpoint in checkpoints_of(events)[1::4]:
        for name, rows in rows_by_arm(events_of(experiment, cache, going_on(checkpoint))).items():
            assert rows == expected[name][-len(rows) :]


@pytest.mark.slow
def test_epochs_of_a_number_of_batches_go_on_from_any_of_them(cache: Path) -> None:
    # Of 7 images a pass has a batch of 3 and one of 4, so the second pass begins in an epoch.
    overrides = ("training.batches_per_epoch=3", "teacher.training.batches_per_epoch=1")
    experiment = experiment_with(*overrides, arms={"kd_rank": ARMS["kd_rank"]})
    events = [*events_of(experiment, cache, controller=StopController(0))]
    teacher = [event for event in events if isinstance(event, TeacherBatch)]
    assert [(event.batch, event.batches) for event in teacher] == [(1, 1)]
    expected = rows_by_arm(events)["kd_rank"]
    assert len(expected) == 2
    for _, checkpoint in checkpoints_of(events)[1::2]:
        rows = rows_by_arm(events_of(experiment, cache, going_on(checkpoint))).get("kd_rank", [])
        assert rows == expected[len(expected) - len(rows) :]


def test_each_arm_shows_what_it_and_the_teacher_find(company: list[Event]) -> None:
    shown = {event.arm: event for event in company if isinstance(event, Detected)}
    assert shown.keys() == ARMS.keys()
    numbers = {arm: [scene.number for scene in event.scenes] for arm, event in shown.items()}
    assert len({*map(tuple, numbers.values())}) == 1
    for scenes in zip(*(event.scenes for event in shown.values()), strict=True):
        first, *others = scenes
        assert all((one.teacher.boxes == first.teacher.boxes).all() for one in others)


def test_regions_of_the_teacher_are_the_same_for_all_arms(cache: Path) -> None:
    overrides = ("detection.proposals=teacher",)
    arms: Mapping[str, Any] = {"kd": {}, "again": {}, "kd_rank": ARMS["kd_rank"]}
    rows = rows_by_arm(events_of(experiment_with(*overrides, arms=arms), cache))
    assert [strip(row) for row in rows["kd"]] == [strip(row) for row in rows["again"]]
    experiment = experiment_with(*overrides, arms=arms)
    dataset = load(experiment, Path())
    teacher = frozen_teacher(experiment, dataset)
    batch = next(DetectionStream(dataset, CPU, 3, seed=0).epoch(1))  # type: ignore[arg-type]
    taught = teach(teacher, batch, FeatureNeeds(False, False))
    assert isinstance(taught, TaughtScenes)
    assert taught.shared is not None
    places = taught.shared[0]
    students = [ArmOnStream(arm, 0, teacher, torch.empty(0)) for arm in experiment.resolved_arms]
    for output in (student.step(taught) for student in students):
        assert output.compared is not None
        assert torch.equal(output.compared.targets.labels, places.labels)
        assert output.outputs.shape == (1, len(places.labels), 11)


def strip(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "arm"}


@pytest.mark.slow
def test_two_ranks_end_with_the_same_rows(tmp_path: Path, together: Together) -> None:
    experiment = experiment_with(arms={"kd_rank": ARMS["kd_rank"]})

    def trained(group: ProcessGroup) -> list[Row]:
        cache = tmp_path / f"cache-{group.rank}-of-{group.world_size}"
        return rows_of(events_of(experiment, cache, group=group))

    first, second = together(2, trained)
    assert first == second
    alone = trained(SINGLE_PROCESS)
    for row, expected in zip(first, alone, strict=True):
        assert row.keys() == expected.keys()
        assert row["rpn_objectness"] == pytest.approx(expected["rpn_objectness"], rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_detectors_of_one_stage_are_compared_at_the_anchors_of_objects(
    kind: str, cache: Path
) -> None:
    kept = [parse_override(one) for one in QUICK if ".options." not in one and ".model=" not in one]
    models = {"student": f"{kind}:cnn2", "teacher": f"{kind}:resnet8"}
    given = [Override(f"{role}.model", model) for role, model in models.items()]
    given += [Override(f"{role}.options", {"out_channels": 64}) for role in models]
    experiment = load_experiment("detection_scenes", [*kept, *given])
    arms = {name: ARMS[name] for name in ("ce", "kd_rank")}
    rows = rows_by_arm(events_of(experiment.model_copy(update={"arms": arms}), cache))
    terms = {"box", "centerness", "rpn_box", "rpn_objectness"}
    for row in (row for of_arm in rows.values() for row in of_arm):
        assert terms & row.keys() == {*DETECTOR_TERMS[kind]}
        assert all(map(math.isfinite, (row["kl"], row["rank"], row["test_kl"], row["test_ce"])))
    assert rows["ce"][0]["kl"] != rows["kd_rank"][0]["kl"]
