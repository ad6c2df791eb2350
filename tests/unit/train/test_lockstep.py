"""Lockstep training: one teacher pass for all arms, and no arm can tell that others are there."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from trained import (
    CPU,
    DIVERGING,
    Arms,
    Row,
    events_of,
    experiment_with,
    labelled_images,
    rows_by_arm,
    runtime,
)

from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.records.metrics import columns
from rkkd_cli.sweep.engines.worker import drain
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.train.arm import ArmOnStream, new_student
from rkkd_cli.train.events import ArmStopped, BatchDone, EpochDone, Warned
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.rng import IsolatedRng
from rkkd_cli.train.teacher.obtain import obtain_teacher

VAL_COLUMNS = CLASSIFICATION.split_columns("val")
EMA_COLUMNS, VAL_EMA_COLUMNS = ((CLASSIFICATION.ema_column(split),) for split in ("test", "val"))

ARMS: Arms = {
    "kd": {"rank": {"grad": False}},
    "kd_rank": {"rank": {"grad": True}},
    "hot": {"method": {"temperature": 8.0, "alpha": 0.5}},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.01}},
    "modern": {
        "training": {
            "optimizer": "adam",
            "lr": 0.01,
            "clip_grad_norm": 0.1,
            "norm_bias_decay": False,
            "weight_decay": 0.1,
            "ema_decay": 0.8,
        }
    },
    "wide": {"student": {"model": "digits_teacher"}},
}


def rows_with(cache: Path, arms: Arms, *overrides: str) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*overrides, arms=arms), cache))


def unnamed(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "arm"} for row in rows]


@pytest.fixture(scope="module")
def company(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, ARMS)


def test_every_arm_gets_one_whole_row_an_epoch(cache: Path) -> None:
    events = events_of(experiment_with(arms=ARMS), cache)
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [1, 2]
    for event in epochs:
        assert [row["arm"] for row in event.rows] == list(ARMS)
        for row in event.rows:
            own = EMA_COLUMNS if row["arm"] == "modern" else ()
            assert set(row) == {*columns(with_validation=False), *own}
            assert all(math.isfinite(row[name]) for name in row if name != "arm")
    batches = [(event.epoch, event.batch) for event in events if isinstance(event, BatchDone)]
    assert batches == [(epoch, batch) for epoch in (1, 2) for batch in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_alone_gives_the_same_rows_as_in_company(
    name: str, cache: Path, company: dict[str, list[Row]]
) -> None:
    assert rows_with(cache, {name: ARMS[name]}) == {name: company[name]}


def test_the_order_of_the_arms_changes_no_number(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    assert rows_with(cache, dict(reversed([*ARMS.items()]))) == company


def test_the_same_run_twice_gives_the_same_rows(cache: Path, company: dict[str, list[Row]]) -> None:
    torch.rand(7)  # whatever else happens to the global generator
    assert rows_with(cache, ARMS) == company


def test_another_seed_gives_other_rows(cache: Path, company: dict[str, list[Row]]) -> None:
    rows = rows_with(cache, {"kd": ARMS["kd"]}, "seeds=[0,1]")["kd"]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert rows[0]["ce"] != rows[2]["ce"]
    assert rows[:2] == company["kd"]


def test_two_identical_arms_give_identical_rows(cache: Path) -> None:
    rows = rows_with(cache, {"a": ARMS["kd_rank"], "b": ARMS["hot"], "c": ARMS["kd_rank"]})
    assert unnamed(rows["a"]) == unnamed(rows["c"])
    assert unnamed(rows["a"]) != unnamed(rows["b"])


def test_the_control_arm_logs_the_ranking_loss_and_never_learns_from_it(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    arms: Arms = {
        "plain": {"rank": {"grad": False}},
        "heavy": {"rank": {"grad": False, "weight": 1000.0}},
        "steep": {"rank": {"grad": False, "weight": 7.0, "steepness": 50.0}},
    }
    rows = rows_with(cache, arms)
    ranking = {"rank", "test_rank", "grad_norm_rank", "grad_cosine", "grad_low_share_rank",
               "grad_live_pairs"}  # fmt: skip
    for name in ("heavy", "steep"):
        for row, plain in zip(unnamed(rows[name]), unnamed(rows["plain"]), strict=True):
            differing = {key for key in row if row[key] != plain[key]}
            assert differing == (ranking if name == "steep" else set())
    trained = {"ce", "kl", "rank", "test_ce", "test_kl"}
    last, control = company["kd_rank"][-1], company["kd"][-1]
    assert all(last[name] != control[name] for name in trained)


def test_learning_from_the_ranking_loss_lowers_it(cache: Path) -> None:
    arms: Arms = {"off": {"rank": {"grad": False}}, "on": {"rank": {"grad": True, "weight": 5.0}}}
    rows = rows_with(cache, arms)
    assert rows["on"][-1]["rank"] < rows["off"][-1]["rank"]
    assert rows["on"][-1]["kendall_tau"] > rows["off"][-1]["kendall_tau"]


def test_an_arm_that_diverges_stops_and_leaves_the_others_as_they_are(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    events = events_of(experiment_with(arms={**DIVERGING, "kd": ARMS["kd"]}), cache)
    (stopped,) = [event for event in events if isinstance(event, ArmStopped)]
    assert (stopped.arm, stopped.seed, stopped.epoch) == ("bad", 0, 1)
    assert stopped.step in (2, 3, 4)  # the first step still has the first weights
    assert stopped.term in ("ce", "kl", "rank")
    place = f"arm bad, seed 0 stopped at epoch 1, step {stopped.step}: {stopped.term} is not finite"
    assert place in stopped.sentence
    assert rows_by_arm(events) == {"kd": company["kd"]}


def test_a_run_whose_arms_have_all_stopped_ends_without_rows(cache: Path) -> None:
    events = events_of(experiment_with(arms=DIVERGING), cache)
    assert rows_by_arm(events) == {}
    assert [event.arm for event in events if isinstance(event, ArmStopped)] == ["bad"]
    assert max(event.epoch for event in events if isinstance(event, BatchDone)) == 1


def test_a_validation_share_adds_its_columns(cache: Path) -> None:
    (first, _) = rows_with(cache, {"kd": ARMS["kd"]}, "dataset.val_share=0.2")["kd"]
    assert set(VAL_COLUMNS) <= set(first)
    assert all(math.isfinite(first[name]) for name in VAL_COLUMNS)
    assert first["val_ce"] != first["test_ce"]
    assert (first["val_acc"] / 2.5).is_integer()  # 40 images
    assert not set(EMA_COLUMNS + VAL_EMA_COLUMNS) & set(first)


def test_the_moving_average_has_accuracies_of_its_own(cache: Path) -> None:
    """With a decay that forgets at once it is the student, with one that keeps all its start."""
    arms: Arms = {
        "none": {},
        "forgets": {"training": {"ema_decay": 1e-12}},
        "keeps": {"training": {"ema_decay": 1 - 1e-9}},
    }
    rows = rows_with(cache, arms, "dataset.val_share=0.2", "training.lr=0.1")
    for row, plain in zip(rows["forgets"], rows["none"], strict=True):
        assert (row["test_acc_ema"], row["val_acc_ema"]) == (plain["test_acc"], plain["val_acc"])
    first, last = rows["keeps"]
    assert first["val_acc_ema"] == last["val_acc_ema"]
    for name, its in rows.items():
        for row, plain in zip(its, rows["none"], strict=True):
            average = {key: row.pop(key, None) for key in EMA_COLUMNS + VAL_EMA_COLUMNS}
            assert (None in average.values()) == (name == "none")
            assert row | {"arm": "none"} == plain | {"arm": "none"}


def test_bfloat16_trains_on_a_cpu_close_to_float32(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    (first, last) = rows_with(cache, {"kd": ARMS["kd"]}, "precision=bf16")["kd"]
    assert first["ce"] != company["kd"][0]["ce"]
    assert first["ce"] == pytest.approx(company["kd"][0]["ce"], rel=0.1)
    assert math.isfinite(last["kl"])


class Bench:
    """A teacher and a stream as a run has them, to look at from outside."""

    def __init__(self, cache: Path, arms: Arms) -> None:
        self.arms = experiment_with(arms=arms).resolved_arms
        experiment = self.arms[0].experiment
        self.dataset = labelled_images(experiment, cache)
        self.teacher, _ = drain(obtain_teacher(experiment, self.dataset, runtime(cache)))
        self.stream = Stream(self.dataset, CPU, experiment.training.batch_size, seed=0)

    def train(self, epochs: int) -> None:
        arms = [ArmOnStream(arm, 0, self.teacher, self.stream.data.labels) for arm in self.arms]
        held_out = {
            "test": self.teacher.taught_split(DeviceImages(self.dataset.test, self.dataset, CPU))
        }
        lockstep = Lockstep("seed-0", self.stream, self.teacher, arms, epochs, held_out)
        for _ in lockstep.train():
            pass


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_teacher_looks_at_each_batch_once_however_many_arms(count: int, cache: Path) -> None:
    bench = Bench(cache, dict(list(ARMS.items())[:count]))
    sizes: list[int] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert not module.training
        assert not output.requires_grad
        sizes.append(len(inputs[0]))

    bench.teacher.model.register_forward_hook(record)
    bench.train(epochs=3)
    held_out = math.ceil(100 / CLASSIFICATION_TASK.evaluation_batch)
    assert len(bench.stream) == 4
    assert len(sizes) == held_out + 3 * len(bench.stream)
    assert sizes == [100] + 3 * [64, 64, 64, 8]


def test_the_teachers_weights_and_batchnorm_statistics_never_change(cache: Path) -> None:
    bench = Bench(cache, ARMS)
    before = {name: value.clone() for name, value in bench.teacher.model.state_dict().items()}
    bench.train(epochs=2)
    after = bench.teacher.model.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and not p.requires_grad for p in bench.teacher.model.parameters())


def test_all_arms_of_a_seed_start_from_the_same_weights(cache: Path) -> None:
    bench = Bench(cache, {name: ARMS[name] for name in ("kd", "kd_rank", "hot", "adamw")})
    states = [
        new_student(arm, 0, bench.teacher, bench.teacher.input)[0].state_dict()
        for arm in bench.arms
    ]
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())
    other = new_student(bench.arms[0], 1, bench.teacher, bench.teacher.input)[0].state_dict()
    assert not torch.equal(other["convs.0.weight"], states[0]["convs.0.weight"])


def draw(owner: IsolatedRng) -> Tensor:
    with owner.active():
        return nn.functional.dropout(torch.ones(50))


def test_owners_that_take_turns_draw_the_same_noise_as_alone() -> None:
    alone = [draw(owner) for owner in [IsolatedRng(3, CPU)] for _ in range(4)]
    first, second = IsolatedRng(3, CPU), IsolatedRng(4, CPU)
    turns = []
    for _ in range(4):
        turns.append(draw(first))
        draw(second)
        torch.rand(11)
    assert torch.equal(torch.stack(turns), torch.stack(alone))
    assert not torch.equal(turns[0], turns[1])


def test_an_owners_draws_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    draw(IsolatedRng(3, CPU))
    assert torch.equal(torch.rand(3), undisturbed)


CONSTANT = """
from torch import nn

def net(num_classes):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
    nn.init.constant_(model[1].bias[3:4], 1e4)
    return model
"""


def test_an_arm_that_predicts_one_class_is_told_after_its_last_epoch(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constant.py").write_text(CONSTANT)
    monkeypatch.chdir(tmp_path)
    arms: Arms = {"kd": {}, "dull": {"student": {"model": "constant.py:net"}}}
    events = events_of(experiment_with(arms=arms), cache)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.text.startswith("seed 0: after epoch 2, dull predicts one class for all 100 test")
