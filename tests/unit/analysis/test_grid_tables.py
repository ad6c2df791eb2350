"""A grid's tables against numbers that can be read off."""

import math

import pandas as pd
import pytest
from made_rows import ALPHA, GRAD, TEMPERATURE, grid_rows

from rkkd_cli.analysis.grid_tables import finished_baselines, grid_tables, key_values, seeds_text
from rkkd_cli.analysis.summary import MeanStd

KEYS = (ALPHA, TEMPERATURE)


def frame(grads: tuple[bool, ...] = (True,)) -> pd.DataFrame:
    """Return cells of α 0.1, 0.9 × T 1, 10, two seeds: 100α + T + seed; (0.9, 10) has failed."""
    values = {ALPHA: (0.1, 0.9), TEMPERATURE: (10.0, 1.0), GRAD: grads}
    failed = [(0.9, 10.0, grad) for grad in grads]
    return grid_rows(values, lambda a, t, grad: 100 * a + t + 5 * grad, failed=failed)


def test_places_hold_mean_spread_and_count() -> None:
    (table,) = grid_tables(frame(), KEYS, "last_acc")
    assert (table.rows, table.columns) == ((0.1, 0.9), (1.0, 10.0))
    assert set(table.cells) == {(0.1, 1.0), (0.1, 10.0), (0.9, 1.0)}
    one = table.cells[0.1, 10.0]
    assert one.mean == pytest.approx(25.5)
    assert one.std == pytest.approx(math.sqrt(0.5))
    assert one.n == 2
    assert table.best == {(0.9, 1.0)}
    assert table.best_of_columns == {(0.9, 1.0), (0.1, 10.0)}
    assert finished_baselines(frame(), "last_acc") == {"baseline": MeanStd(99.0, None, 1)}


def test_equal_cells_are_all_the_best() -> None:
    rows = grid_rows({ALPHA: (0.1, 0.5), TEMPERATURE: (1.0, 4.0)}, lambda a, t: 10 * (a < t))
    (table,) = grid_tables(rows, KEYS, "last_acc")
    assert table.best == table.best_of_columns == {*table.cells}
    assert [seeds_text(counts) for counts in ([1, 1], [3], [1, 3])] == [
        "one seed", "3 seeds", "1 to 3 seeds",
    ]  # fmt: skip


def test_further_keys_make_facets() -> None:
    tables = grid_tables(frame((True, False)), (*KEYS, GRAD), "last_acc")
    assert [table.facet for table in tables] == [{GRAD: True}, {GRAD: False}]
    first, second = (table.cells[0.1, 1.0].mean for table in tables)
    assert first - second == pytest.approx(5)


def test_numbers_stand_in_their_order_and_words_in_that_of_the_file() -> None:
    assert key_values(frame(), TEMPERATURE) == [1.0, 10.0]
    assert key_values(pd.DataFrame({"k": ["b", "a", "b"]}), "k") == ["b", "a"]
