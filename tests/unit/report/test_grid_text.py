"""What stands below the tables of a grid: how the best are marked, and the baseline."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import ALPHA, ALPHAS, TEMPERATURE, TEMPERATURES, grid_rows
from report_runs import compared, made_manifest

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.selection import selection_of
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.grid_text import grid_notes, lay_out
from rkkd_cli.report.text_tables import WRITERS


def made_record(accuracy: Callable[..., float]) -> GridRecord:
    """Return a grid of 3 × 2 cells in two seeds, and of a baseline at 99 %."""
    keys = {ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}
    return GridRecord(
        RunDirectory(Path("made")), load_experiment("rank_grad"), made_manifest("made"),
        tuple(keys), grid_rows(keys, accuracy), selection_of("last", CLASSIFICATION),
    )  # fmt: skip


def test_cells_that_share_the_best_are_all_marked() -> None:
    grid = made_record(lambda alpha, _: 40.0 * (alpha < 0.6))
    table = lay_out(*grid.tables)
    assert [[cell.best for cell in row[1:]] for row in table.rows] == [
        [True, True], [True, True], [False, False],
    ]  # fmt: skip
    for to, star in (("text", "[40.50 ± 0.71]*"), ("md", "**40.50 ± 0.71**\\*")):
        assert WRITERS[to]([table], []).count(star) == 4
    assert WRITERS["latex"]([table], []).count("}$^{\\ast}$") == 4
    assert grid_notes(grid, "bold")[0] == (
        "Test accuracy in percent, last epoch, mean ± sample standard deviation of 2 seeds. "
        "The best of each column is bold, 4 cells share the best mean and are marked *."
    )


def test_nothing_is_called_bold_where_nothing_can_be() -> None:
    grid = made_record(lambda alpha, t: alpha + t)
    assert grid_notes(grid, "")[0].endswith("2 seeds. The best of all is marked *.")
    assert grid_notes(grid)[0].endswith("of 2 seeds.")


def test_what_is_published_of_unfinished_cells_is_not_called_nothing() -> None:
    grid = made_record(lambda alpha, t: alpha + t)
    of_cell = replace(grid, published={"of a cell that is not finished": compared(60.0)})
    assert grid_notes(of_cell)[1].startswith("In brackets: ")
    alone = replace(grid, published={"baseline": compared(60.0)}, unpublished="the 6 arms")
    assert grid_notes(alone)[1] == "Nothing is published of the 6 arms."


@pytest.mark.parametrize(
    ("best", "beside"),
    [(98.5, ", as good as the best cell"), (60.0, ", above every cell"), (99.0, "")],
)
def test_a_baseline_that_is_as_good_says_so(best: float, beside: str) -> None:
    notes = grid_notes(made_record(lambda alpha, _: best - (alpha < 0.6)))
    assert notes[1] == f"baseline (the student without distillation): 99.00 %{beside}"
