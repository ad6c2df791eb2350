"""Published curves in figures: dotted, named, on an axis of their own where levels differ."""

import pandas as pd
import pytest
from drawn import legend_of, points_of
from made_rows import ARMS, arm_seed_epoch, metric_row
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from report_runs import made_picture, made_published

from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.report.curves import quantity_figure, sheet_figure
from rkkd_cli.report.published_lines import published_lines
from rkkd_cli.report.style import COLOURS
from rkkd_cli.report.words import Quantity, quantity_of

QUANTITIES = [quantity_of(column) for column in CLASSIFICATION.curves]

PUBLISHED = made_published(("kd_rank", "other"))
METRICS = pd.DataFrame(metric_row(*row, 0.5) for row in arm_seed_epoch(ARMS, seeds=1, epochs=2))
PICTURE = made_picture(("run", METRICS), published=PUBLISHED)
CURVES = PICTURE.curves
EPOCHS = list(range(1, 15))
STATED = {
    "rank": [-1.2 - 0.01 * epoch for epoch in EPOCHS],
    "kl": [5 / epoch for epoch in EPOCHS],
    "test_acc": [60.0 + epoch for epoch in EPOCHS],
}
OURS, THEIRS = ["kd (n = 1)", "kd_rank (n = 1)"], ["kd_rank, published", "other, published"]


def dotted(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if str(line.get_label()) in THEIRS]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_only_accuracies_share_our_axis(quantity: Quantity) -> None:
    figure = quantity_figure(quantity, PICTURE)
    ours, *theirs = figure.axes
    assert len(theirs) == (quantity.column != "test_acc")
    place = theirs[0] if theirs else ours
    points = points_of(place)
    assert list(points) == (THEIRS if theirs else [*OURS, *THEIRS])
    for label in THEIRS:
        epochs, values = points[label]
        assert epochs == EPOCHS
        assert values == pytest.approx(STATED[quantity.column])
    if theirs:
        assert place.get_ylabel().startswith("published, no")
        assert list(points_of(ours)) == OURS
    assert legend_of(ours) == [*OURS, *THEIRS]
    assert figure.get_supxlabel() == "Dotted: published, a study"


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_without_published_curves_there_is_nothing_of_them(quantity: Quantity) -> None:
    figure = quantity_figure(quantity, made_picture(("run", METRICS)))
    (axes,) = figure.axes
    assert list(points_of(axes)) == legend_of(axes) == OURS
    assert figure.get_supxlabel() == ""


def test_a_published_arm_is_dotted_in_the_colour_of_ours_of_its_name() -> None:
    lines = published_lines("test_acc", CURVES, PUBLISHED)
    assert [line.colour for line in lines] == [COLOURS[1], COLOURS[2]]
    (axes,) = quantity_figure(QUANTITIES[2], PICTURE).axes
    assert [line.get_color() for line in dotted(axes)] == [COLOURS[1], COLOURS[2]]
    assert all(line.is_dashed() for line in dotted(axes))
    assert [line.get_color() for line in axes.lines[:2]] == [COLOURS[0], COLOURS[1]]


def test_the_sheet_names_each_published_line_once_and_their_source() -> None:
    figure = sheet_figure(PICTURE)
    assert [len(dotted(axes)) for axes in figure.axes] == [0, 0, 2, 0, 0, 0, 2, 2]
    assert legend_of(figure) == [*OURS, *THEIRS]
    assert figure.legends[0].get_title().get_text() == "Dotted: published, a study"
