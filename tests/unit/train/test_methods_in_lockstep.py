"""Methods with features, views and trainable parts on one stream: apart, and to go on with."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.methods import METHODS
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.recorder import metrics_header
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import Checkpoint, EpochDone, Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

CPU = torch.device("cpu")
NEVER = 1e9
QUICK = (
    "training.epochs=2",
    "teacher.training.epochs=2",
    "training.batch_size=50",
    "seeds=[0]",
    "dataset.limit_train=150",
    "dataset.limit_test=50",
    'student.model="resnet8"',
    "dataset.crop_padding=1",
)
TIMING = ("epoch_seconds", "images_per_second")
SETTINGS: dict[str, dict[str, Any]] = {"crd": {"negatives": 20}, "fitnet": {"hint_layer": 1}}
PAIRED_BY_STAGE = ("reviewkd",)  # the teacher of digits has other stages than a ResNet
ARMS = {
    name: {"method": {"name": name} | ({name: SETTINGS[name]} if name in SETTINGS else {})}
    for name in METHODS
    if name not in PAIRED_BY_STAGE
}
Row = dict[str, Any]


def experiment_with(arms: dict[str, Any], *overrides: str) -> Experiment:
    given = [parse_override(text) for text in (*QUICK, *overrides)]
    return load_experiment("rank_grad", [*given, Override("arms", arms)])


def run(experiment: Experiment, cache: Path, begun: Any = None) -> list[Event]:
    return list(
        run_jobs(RunState(experiment, begun).work(), Runtime(CPU, cache, StopController(NEVER)))
    )


def rows_of(events: list[Event]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for event in events:
        for row in event.rows if isinstance(event, EpochDone) else ():
            kept = {key: value for key, value in row.items() if key not in TIMING}
            rows.setdefault(row["arm"], []).append(kept)
    return rows


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    cache = tmp_path_factory.getbasetemp() / "rkkd-cache"
    return rows_of(run(experiment_with(ARMS), cache))


def test_every_arm_records_its_own_terms_and_those_of_all(together: dict[str, list[Row]]) -> None:
    header = metrics_header(experiment_with(ARMS))
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
    alone = rows_of(run(experiment_with({name: ARMS[name]}), cache))
    assert alone[name] == together[name]


@pytest.mark.parametrize("name", ["ctkd", "mlkd", "crd", "simkd"])
def test_what_a_method_keeps_comes_back_from_a_checkpoint(
    name: str, together: dict[str, list[Row]], cache: Path
) -> None:
    experiment = experiment_with({name: ARMS[name]})
    events = run_jobs(RunState(experiment).work(), Runtime(CPU, cache, StopController(0)))
    kept = [(e.stream, deepcopy(e.state)) for e in events if isinstance(e, Checkpoint)]
    for stream, state in (kept[1], kept[-2]):
        later = rows_of(run(experiment, cache, {stream: state}))
        assert later[name] == together[name][-len(later[name]) :]


@pytest.mark.parametrize("name", ["mlkd", "rkd", "simkd", "vid"])
def test_half_precision_trains(name: str, cache: Path) -> None:
    events = run(experiment_with({name: ARMS[name]}, "precision=bf16"), cache)
    rows = rows_of(events)[name]
    assert all(isinstance(rows[-1][term], float) for term in METHODS[name].terms)


def test_arms_that_look_at_features_are_not_stacked_and_the_others_are(cache: Path) -> None:
    arms = {name: ARMS[name] for name in ("kd", "dkd", "simkd")}
    stacked = rows_of(run(experiment_with(arms, "stacked=true"), cache))
    plain = rows_of(run(experiment_with(arms), cache))
    assert stacked["simkd"] == plain["simkd"]
    for name in ("kd", "dkd"):
        assert stacked[name][-1]["ce"] == pytest.approx(plain[name][-1]["ce"], rel=2e-3)
