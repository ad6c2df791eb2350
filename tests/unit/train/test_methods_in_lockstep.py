"""Methods with features, views and trainable parts on one stream: apart, and to go on with."""

from pathlib import Path

import pytest
from running import quick
from trained import (
    Arms,
    Row,
    arm_of,
    checkpoints_of,
    events_of,
    experiment_with,
    going_on,
    rows_by_arm,
)

from rkkd_cli.config.methods import methods_for
from rkkd_cli.methods import METHODS
from rkkd_cli.records.metrics import TIMING
from rkkd_cli.sweep.recording.beginning import metrics_header
from rkkd_cli.train.stop_controller import StopController

SMALL = quick(
    "training.batch_size=50", "dataset.limit_train=150", "dataset.limit_test=50",
    'student.model="resnet8"', "dataset.crop_padding=1",
)  # fmt: skip
PAIRED_BY_STAGE = ("reviewkd",)  # the teacher of digits has other stages than a ResNet
ARMS = {name: arm_of(name) for name in methods_for("classification") if name not in PAIRED_BY_STAGE}


def rows_with(cache: Path, arms: Arms, *overrides: str) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*SMALL, *overrides, arms=arms), cache))


@pytest.fixture(scope="module")
def together(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, ARMS)


def test_every_arm_records_its_own_terms_and_those_of_all(together: dict[str, list[Row]]) -> None:
    header = metrics_header(experiment_with(*SMALL, arms=ARMS))
    for name, rows in together.items():
        own = METHODS[name].terms
        others = {term for method in METHODS.values() for term in method.terms} - set(own)
        assert [row["epoch"] for row in rows] == [1, 2]
        for row in rows:
            assert set(own) <= set(row) <= set(header) | set(TIMING)
            assert not others & set(row)
            assert all(isinstance(row[term], float) for term in own)


@pytest.mark.parametrize("name", ARMS)
def test_no_method_changes_a_number_of_another_arm(
    name: str, together: dict[str, list[Row]], cache: Path
) -> None:
    assert rows_with(cache, {name: ARMS[name]}) == {name: together[name]}


@pytest.mark.parametrize("name", ["ctkd", "mlkd", "crd", "simkd"])
def test_what_a_method_keeps_comes_back_from_a_checkpoint(
    name: str, together: dict[str, list[Row]], cache: Path
) -> None:
    experiment = experiment_with(*SMALL, arms={name: ARMS[name]})
    events = events_of(experiment, cache, controller=StopController(0))
    checkpoints = [checkpoint for _, checkpoint in checkpoints_of(events)]
    for checkpoint in (checkpoints[1], checkpoints[-2]):
        later = rows_by_arm(events_of(experiment, cache, going_on(checkpoint)))
        assert later[name] == together[name][-len(later[name]) :]


@pytest.mark.parametrize("name", ["mlkd", "rkd", "simkd", "vid"])
def test_half_precision_trains(name: str, cache: Path) -> None:
    rows = rows_with(cache, {name: ARMS[name]}, "precision=bf16")[name]
    assert all(isinstance(rows[-1][term], float) for term in METHODS[name].terms)


def test_arms_that_look_at_features_are_not_stacked_and_the_others_are(cache: Path) -> None:
    arms = {name: ARMS[name] for name in ("kd", "dkd", "simkd")}
    stacked, plain = rows_with(cache, arms, "stacked=true"), rows_with(cache, arms)
    assert stacked["simkd"] == plain["simkd"]
    for name in ("kd", "dkd"):
        assert stacked[name][-1]["ce"] == pytest.approx(plain[name][-1]["ce"], rel=2e-3)
