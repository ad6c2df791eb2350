"""Published curves in figures: dotted, named, on an axis of their own where levels differ."""

from typing import Any

import pandas as pd
import pytest

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.records.metrics import columns
from rkkd_cli.report.arms import curves_of
from rkkd_cli.report.curves import QUANTITIES, quantity_figure
from rkkd_cli.report.published_lines import DOTS, published_lines
from rkkd_cli.report.style import COLOURS


def metrics() -> Any:
    rows = [
        dict.fromkeys(columns(False), 0.5) | {"arm": arm, "seed": 0, "epoch": epoch}
        for arm in ("kd", "kd_rank")
        for epoch in (1, 2)
    ]
    return pd.DataFrame(rows)


def published() -> PublishedCurves:
    rows = [(arm, epoch, 3.0, -1.2, 60.0) for arm in ("kd_rank", "other") for epoch in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["arm", "epoch", "kd_loss", "rank_loss", "test_acc"])
    return PublishedCurves(table, "a study")


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_only_accuracies_share_our_axis(quantity: Any) -> None:
    figure = quantity_figure(quantity, curves_of([("run", metrics())]), published())
    ours, *theirs = figure.axes
    assert len(theirs) == (quantity.column != "test_acc")
    place = theirs[0] if theirs else ours
    labels = [line.get_label() for line in place.lines]
    assert labels[-2:] == ["kd_rank, published", "other, published"]
    if theirs:
        assert place.get_ylabel().startswith("published, no")
        assert len(ours.lines) == 2
    legend = ours.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 4
    assert "a study" in figure.get_supxlabel()


def test_a_published_arm_has_the_colour_of_ours_of_its_name() -> None:
    lines = published_lines("test_acc", curves_of([("run", metrics())]), published())
    assert [line.colour for line in lines] == [COLOURS[1], COLOURS[2]]
    assert DOTS
