"""A teacher and students on one stream, each at its own size and in its own normalisation."""

from pathlib import Path

import pytest
import torch
from running import quick
from torch.nn import functional as F
from trained import (
    CPU,
    Arms,
    Row,
    events_of,
    experiment_with,
    labelled_images,
    rows_by_arm,
    runtime,
)

from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.methods import METHODS
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.sweep.engines.worker import drain
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.metrics.evaluate import TaughtSplit
from rkkd_cli.train.stacked.stack import group_into_stacks
from rkkd_cli.train.taught_batch import TaughtBatch
from rkkd_cli.train.teacher.obtain import obtain_teacher
from rkkd_cli.train.teacher.store import teacher_key

SMALL = quick(
    "training.batch_size=50", "dataset.limit_train=100", "dataset.limit_test=50",
    "dataset.crop_padding=1",
)  # fmt: skip
ARMS: Arms = {
    "same": {},
    "larger": {"student": {"image_size": 16}},
    "smaller": {"student": {"image_size": 6, "mean": [0.5], "std": [0.5]}},
}


def rows_with(cache: Path, arms: Arms, *overrides: str) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*SMALL, *overrides, arms=arms), cache))


@pytest.fixture(scope="module")
def together(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_of_another_size_changes_no_number_of_another_arm(
    name: str, together: dict[str, list[Row]], cache: Path
) -> None:
    assert rows_with(cache, {name: ARMS[name]}) == {name: together[name]}


def test_arms_of_other_sizes_ride_on_one_stream_and_learn_otherwise(
    together: dict[str, list[Row]],
) -> None:
    assert len({rows[-1]["test_ce"] for rows in together.values()}) == len(ARMS)


def test_the_datasets_own_size_and_normalisation_given_are_as_if_they_were_not(
    together: dict[str, list[Row]], cache: Path
) -> None:
    dataset = labelled_images(experiment_with(*SMALL), cache)
    own = {"image_size": 8, "mean": list(dataset.mean), "std": list(dataset.std)}
    arms: Arms = {"same": {"student": own, "teacher": own}}
    assert rows_with(cache, arms) == {"same": together["same"]}


def test_a_teacher_at_another_size_is_trained_and_runs_at_it(cache: Path) -> None:
    plain = experiment_with(*SMALL)
    other = experiment_with(*SMALL, "teacher.image_size=16", "teacher.mean=0.4", "teacher.std=0.2")
    dataset = labelled_images(plain, cache)
    assert teacher_key(plain, dataset) != teacher_key(other, dataset)
    teacher, ready = drain(obtain_teacher(other, dataset, runtime(cache)))
    assert ready.facts["input"] == {"image_size": [16, 16], "mean": [0.4], "std": [0.2]}
    (batch,) = DeviceImages(dataset.test, dataset, CPU).in_order(50)
    pixels = batch.images * dataset.std[0] + dataset.mean[0]
    own = (F.interpolate(pixels, (16, 16), mode="bilinear", antialias=True) - 0.4) / 0.2
    with torch.no_grad():
        expected = teacher.model(own)
    torch.testing.assert_close(teacher.outputs(batch.images, False).logits, expected)
    split = teacher.taught_split(DeviceImages(dataset.test, dataset, CPU))
    assert isinstance(split, TaughtSplit)
    torch.testing.assert_close(split.teacher_outputs, expected)
    _, again = drain(obtain_teacher(other, dataset, runtime(cache)))
    assert again.facts["source"] == "cache"


def test_images_are_resampled_once_for_all_students_of_a_size(cache: Path) -> None:
    arms = experiment_with(*SMALL, arms={**ARMS, "again": ARMS["larger"]}).resolved_arms
    experiment = arms[0].experiment
    dataset = labelled_images(experiment, cache)
    teacher, _ = drain(obtain_teacher(experiment, dataset, runtime(cache)))
    stream = Stream(dataset, CPU, 50, seed=0)
    students = {arm.name: ArmOnStream(arm, 0, teacher, stream.data.labels) for arm in arms}
    batch = next(stream.epoch(1))
    taught = TaughtBatch(batch, logits_only(torch.zeros(50, 10)), None, 1, 1, {})
    seen = {name: taught.images_for(student.input) for name, student in students.items()}
    assert seen["same"] is batch.images
    assert seen["again"] is seen["larger"]
    assert [seen[name].shape[2] for name in ("larger", "smaller")] == [16, 6]
    stacks = group_into_stacks(list(students.values()))
    assert sorted(len(stack.members) for stack in stacks) == [1, 1, 2]


def test_stacked_students_of_another_size_learn_as_apart(
    together: dict[str, list[Row]], cache: Path
) -> None:
    arms = {"larger": ARMS["larger"], "again": ARMS["larger"]}
    stacked = rows_with(cache, arms, "stacked=true")
    for rows in stacked.values():
        assert rows[-1]["test_ce"] == pytest.approx(together["larger"][-1]["test_ce"], rel=1e-4)


# Those that compare maps. Others read logits and pooled features, which have no size.
MAP_METHODS = ("at", "fitnet", "reviewkd", "simkd", "sp", "vid")


@pytest.mark.parametrize(("teacher", "student"), [(8, 16), (16, 8)])
def test_methods_compare_maps_of_other_sizes(teacher: int, student: int, cache: Path) -> None:
    arms: Arms = {name: {"method": {"name": name}} for name in MAP_METHODS}
    rows = rows_with(
        cache, arms, "teacher.model=resnet8", "student.model=resnet8", "training.epochs=1",
        f"teacher.image_size={teacher}", f"student.image_size={student}",
        "teacher.training.epochs=1",
    )  # fmt: skip
    for name, (row,) in rows.items():
        assert all(isinstance(row[term], float) for term in METHODS[name].terms)
    assert rows.keys() == arms.keys()


def test_a_strong_view_is_resampled_as_well(cache: Path) -> None:
    arms: Arms = {"mlkd": {"method": {"name": "mlkd"}, "student": {"image_size": 16}}}
    (rows,) = rows_with(cache, arms).values()
    assert all(isinstance(rows[-1][term], float) for term in METHODS["mlkd"].terms)
