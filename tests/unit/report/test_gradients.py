"""The figure of the diagnostics: which lines it has, and when there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rkkd_cli.records.metrics import COLUMNS, DIAGNOSTICS, columns
from rkkd_cli.report.arms import curves_of
from rkkd_cli.report.curves import draw_figures
from rkkd_cli.report.gradients import gradients_figure


def metrics(header: tuple[str, ...] = columns(False), seeds: int = 2) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for arm in ("kd", "kd_rank"):
        for seed in range(seeds):
            for epoch in (1, 2, 3):
                row: dict[str, Any] = dict.fromkeys(header, 0.5 + seed + epoch)
                rows.append(row | {"arm": arm, "seed": seed, "epoch": epoch, "lr": 0.1})
    return pd.DataFrame(rows)


def test_each_arm_has_a_line_for_each_term() -> None:
    figure = gradients_figure(curves_of([("run", metrics())]), ["run"])
    assert [len(axes.lines) for axes in figure.axes] == [4, 2, 4]
    first = figure.axes[0].lines[0]
    assert [float(y) for y in np.asarray(first.get_ydata())] == pytest.approx([2.0, 3.0, 4.0])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["kd (n = 2)", "kd_rank (n = 2)", "gradient of kl", "gradient of rank"]


def test_values_that_are_not_defined_leave_gaps() -> None:
    frame = metrics(seeds=1)
    frame.loc[frame["epoch"] == 2, "grad_cosine"] = None
    figure = gradients_figure(curves_of([("run", frame)]), ["run"])
    values = np.asarray(figure.axes[1].lines[0].get_ydata(), dtype=float)
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "absent"])
def test_a_run_without_diagnostics_has_no_such_figure(empty: bool, tmp_path: Path) -> None:
    frame = metrics() if empty else metrics(COLUMNS)
    if empty:
        frame[list(DIAGNOSTICS)] = None
    names = {path.stem for path in draw_figures([("run", frame)], tmp_path, ["svg"])}
    assert names == {"rank", "kl", "test_acc", "sheet"}
