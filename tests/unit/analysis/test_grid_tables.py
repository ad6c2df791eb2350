"""A grid's tables against numbers that can be read off, and the published values beside them."""

import math
from pathlib import Path

import pandas as pd
import pytest

from rkkd_cli.analysis.grid_tables import baselines_of, grid_tables, values_of
from rkkd_cli.analysis.published import read_published
from rkkd_cli.analysis.summary import Spread
from rkkd_cli.errors import UserError
from rkkd_cli.report.grid_text import lay_out, long_csv

A, T, G = "method.alpha", "method.temperature", "rank.grad"
KEYS = (A, T)


def frame(grads: tuple[bool, ...] = (True,)) -> pd.DataFrame:
    """Return cells of α 0.1, 0.9 × T 1, 10, two seeds: 100α + T + seed; (0.9, 10) has failed."""
    rows = [
        {"arm": "x", "seed": s, A: a, T: t, G: g, "last_acc": 100 * a + t + s + 5 * g,
         "status": "failed" if (a, t) == (0.9, 10.0) else "done"}
        for a in (0.1, 0.9) for t in (10.0, 1.0) for g in grads for s in (0, 1)
    ]  # fmt: skip
    baseline = {"arm": "baseline", "seed": 0, "last_acc": 99.0, "status": "done"}
    return pd.DataFrame([baseline, *rows])


def test_places_hold_mean_spread_and_count() -> None:
    (table,) = grid_tables(frame(), KEYS, "last_acc")
    assert (table.rows, table.columns) == ((0.1, 0.9), (1.0, 10.0))
    assert set(table.cells) == {(0.1, 1.0), (0.1, 10.0), (0.9, 1.0)}
    one = table.cells[0.1, 10.0]
    assert one.mean == pytest.approx(25.5)
    assert one.std == pytest.approx(math.sqrt(0.5))
    assert one.n == 2
    assert table.best == (0.9, 1.0)
    assert table.best_of_columns == {(0.9, 1.0), (0.1, 10.0)}
    assert baselines_of(frame(), "last_acc") == {"baseline": Spread(99.0, None, 1)}


def test_further_keys_make_facets() -> None:
    tables = grid_tables(frame((True, False)), (A, T, G), "last_acc")
    assert [table.facet for table in tables] == [{G: True}, {G: False}]
    first, second = (table.cells[0.1, 1.0].mean for table in tables)
    assert first - second == pytest.approx(5)


def test_numbers_stand_in_their_order_and_words_in_that_of_the_file() -> None:
    assert values_of(frame(), T) == [1.0, 10.0]
    assert values_of(pd.DataFrame({"k": ["b", "a", "b"]}), "k") == ["b", "a"]


def published(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "published.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_published_values_stand_beside_the_measured_ones(tmp_path: Path) -> None:
    text = (
        "student,alpha,temperature,test_acc_percent\n"
        '"ResNet18 (teacher, no distillation)",,,91.5\n'
        '"cnn2 (student, no distillation)",,,61.25\n'
        "cnn2,0.1,1,10\nresnet8,0.1,1,99\n"
    )
    stated = read_published(published(tmp_path, text), KEYS, "cnn2", "resnet18")
    assert (stated.teacher, stated.baseline) == (91.5, 61.25)
    (table,) = grid_tables(frame(), KEYS, "last_acc", stated)
    assert table.published == {(0.1, 1.0): 10.0}
    assert lay_out(table).rows[0][1].text == "16.50 ± 0.71 (10.00, +6.50)"
    line = long_csv([table]).splitlines()[1].split(",")
    assert line[:3] == ["0.1", "10.0", "25.5"] or line[:3] == ["0.1", "1.0", "16.5"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("alpha,test_acc\n0.1,5\n", "no column 'temperature'"),
        ("alpha,temperature\n0.1,5\n", "no column of accuracies"),
        ("alpha,temperature,test_acc\n0.1,5,high\n", "must hold numbers"),
    ],
)
def test_a_file_that_states_nothing(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        read_published(published(tmp_path, text), KEYS, "cnn2", "ResNet18")
