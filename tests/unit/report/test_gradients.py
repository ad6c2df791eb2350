"""The figure of the diagnostics: which lines it has, and when there is none."""

import numpy as np
import pandas as pd
import pytest
from drawn import legend_of, numbers
from made_rows import ARMS, arm_seed_epoch, metric_row
from matplotlib.collections import LineCollection
from report_runs import made_picture

from rkkd_cli.records.metrics import DIAGNOSTICS
from rkkd_cli.report.curves import run_figures
from rkkd_cli.report.gradients import PANELS, gradients_figure, panel_figure


def metrics(arms: tuple[str, ...] = ARMS, seeds: int = 2) -> pd.DataFrame:
    """Return metrics whose n-th diagnostic is n + 0.5 + seed + epoch."""
    rows = []
    for arm, seed, epoch in arm_seed_epoch(arms, seeds, epochs=3):
        values = {name: n + 0.5 + seed + epoch for n, name in enumerate(DIAGNOSTICS)}
        rows.append(metric_row(arm, seed, epoch, **values))
    return pd.DataFrame(rows)


def test_each_arm_has_a_line_for_each_term() -> None:
    figure = gradients_figure(made_picture(("run", metrics())))
    heights = [[numbers(line.get_ydata()) for line in axes.lines] for axes in figure.axes]
    kl, rank, cosine, low_kl, low_rank, low_teacher, live = (
        [n + 2.0, n + 3.0, n + 4.0] for n in range(7)
    )
    lower_half = [low_kl, low_kl, low_rank, low_rank, low_teacher, low_teacher]
    assert heights == [[kl, kl, rank, rank], [cosine, cosine], lower_half, [live, live]]
    dashes = [[line.get_linestyle() for line in axes.lines] for axes in figure.axes]
    two_terms = ["-", "-", "--", "--"]
    assert dashes == [two_terms, ["-", "-"], [*two_terms, "-.", "-."], ["--", "--"]]
    arms = ["kd (n = 2)", "kd_rank (n = 2)"]
    terms = ["gradient of KL", "gradient of the ranking loss", "teacher's probabilities"]
    assert legend_of(figure) == [*arms, *terms]
    assert figure.get_suptitle().startswith("run – digits: digits_teacher")
    assert figure.axes[1].get_title() == "Cosine between the two gradients"


def test_norms_have_a_logarithmic_axis_with_plain_numbers() -> None:
    figure = gradients_figure(made_picture(("run", metrics())))
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear", "linear"]
    assert [axes.get_title() for axes in figure.axes] == [panel.title for panel in PANELS]
    assert [axes.get_ylabel() for axes in figure.axes] == [panel.label for panel in PANELS]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 4
    figure.axes[0].set_ylim(0.001, 1000)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"0.01", "1", "100"} <= set(labels)


@pytest.mark.parametrize("number", range(len(PANELS)))
def test_a_panel_alone_is_that_of_the_whole_figure(number: int) -> None:
    picture = made_picture(("run", metrics()))
    whole = gradients_figure(picture)
    alone = panel_figure(PANELS[number], picture.curves)
    (axes,) = alone.axes
    for line, other in zip(axes.lines, whole.axes[number].lines, strict=True):
        assert numbers(line.get_ydata()) == numbers(other.get_ydata())
        assert line.get_color() == other.get_color()
    assert legend_of(alone) == legend_of(whole)


def test_many_arms_are_drawn_at_once_and_a_legend_names_some() -> None:
    arms = tuple(f"arm{number}" for number in range(45))
    figure = gradients_figure(made_picture(("run", metrics(arms))))
    for axes, panel in zip(figure.axes, PANELS, strict=True):
        for lines in axes.collections:
            assert isinstance(lines, LineCollection)
            assert len(lines.get_segments()) == 45
        assert len(axes.collections) == len(panel.columns)
    labels = legend_of(figure)
    assert len(labels) == 8 + 3
    assert [text.split()[0] for text in (labels[0], labels[7])] == ["arm0", "arm44"]


def test_values_that_are_not_defined_leave_gaps() -> None:
    frame = metrics(seeds=1)
    frame.loc[frame["epoch"] == 2, "grad_cosine"] = None
    figure = gradients_figure(made_picture(("run", frame)))
    values = np.asarray(figure.axes[1].lines[0].get_ydata(), dtype=float)
    assert np.isnan(values).tolist() == [False, True, False]


def test_a_run_of_an_older_version_has_the_panels_of_its_columns() -> None:
    old = metrics().drop(columns=["grad_live_pairs", "grad_low_share_teacher"])
    figure = gradients_figure(made_picture(("run", old)))
    assert legend_of(figure)[-1] == "gradient of the ranking loss"
    assert [axes.get_title() for axes in figure.axes] == [panel.title for panel in PANELS[:3]]
    both = gradients_figure(made_picture(("old", old), ("new", metrics())))
    assert len(both.axes[3].lines) == len(ARMS)


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "absent"])
def test_a_run_without_diagnostics_has_no_such_figure(empty: bool) -> None:
    absent = metrics().drop(columns=list(DIAGNOSTICS))
    frame = absent.assign(**dict.fromkeys(DIAGNOSTICS)) if empty else absent
    figures = set(run_figures(made_picture(("run", frame))))
    assert figures == {"rank", "kl", "test_acc", "difference", "sheet"}
