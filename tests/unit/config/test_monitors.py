"""Early stopping and the choice of an epoch: what may be asked for, and what is refused why."""

import pytest
from running import EMBEDDING_KEYS

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.config.tasks import TASKS
from rkkd_cli.errors import UserError

SPLIT = "dataset.val_share=0.1"


def experiment_with(*words: str) -> Experiment:
    return load_experiment("rank_grad", [parse_override(word) for word in words])


def test_the_monitors_are_the_columns_of_the_validation_split() -> None:
    for task in TASKS.values():
        columns = (*task.split_columns("val"), task.ema_column("val"))
        assert tuple(task.monitors) == columns


@pytest.mark.parametrize(
    ("words", "monitor"),
    [
        ((), None),
        (("training.patience=3", SPLIT), "val_acc"),
        (("training.monitor=val_kl", SPLIT), "val_kl"),
        (("training.patience=3", "training.monitor=val_rank", SPLIT), "val_rank"),
        ((*EMBEDDING_KEYS, SPLIT), None),
        ((*EMBEDDING_KEYS, "training.patience=3", SPLIT), "val_map_at_r"),
        ((*EMBEDDING_KEYS, "training.monitor=val_recall_at_1", SPLIT), "val_recall_at_1"),
        (
            (
                *EMBEDDING_KEYS,
                "training.monitor=val_map_at_r_ema",
                "training.ema_decay=0.9",
                SPLIT,
            ),
            "val_map_at_r_ema",
        ),
    ],
)
def test_patience_or_a_monitor_chooses_epochs(words: tuple[str, ...], monitor: str | None) -> None:
    assert experiment_with(*words).training.selects_by == monitor


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("training.patience=3",), "training.patience needs images .* dataset.val_share"),
        (("training.monitor=val_kl",), "training.monitor needs images"),
        (("training.patience=0", SPLIT), "training.patience = 0: must be greater"),
        (("training.min_delta=1.0", SPLIT), "min_delta says what counts as better for patience"),
        (("training.monitor=test_acc", SPLIT), "selecting on the test images flatters"),
        (("training.monitor=test_kl", SPLIT), "selecting on the test images flatters"),
        (("training.monitor=val_ac", SPLIT), "did you mean 'val_acc'"),
        (("training.monitor=kl", SPLIT), "did you mean 'val_kl'"),
        (
            (*EMBEDDING_KEYS, "training.monitor=val_acc", SPLIT),
            "monitor = 'val_acc': is no metric of the task embedding; the choices are val_map_at_r",
        ),
        (
            (*EMBEDDING_KEYS, "training.monitor=test_map_at_r", SPLIT),
            "their MAP@R would no longer tell .* monitor one of val_map_at_r",
        ),
        ((*EMBEDDING_KEYS, "training.monitor=val_map_r", SPLIT), "did you mean 'val_map_at_r'"),
        ((*EMBEDDING_KEYS, "training.monitor=val_map_at_r_ema", SPLIT), "set ema_decay"),
        (
            ("training.monitor=val_triplet", SPLIT),
            "no metric of the task classification; the choices are val_acc, val_top5, val_ce",
        ),
        (("teacher.training.patience=3", SPLIT), "unknown key 'teacher.training.patience'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_reason(
    words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        experiment_with(*words)
