"""The figures of a page by what they show: Bokeh's heatmaps and curves, and the still pictures."""

import base64
from typing import Any

import pandas as pd
import pytest
from bokeh.document import Document
from bokeh.models import HoverTool
from made_rows import ALPHA, ALPHAS, ARMS, GRAD, TEMPERATURE, TEMPERATURES, metric_row
from matplotlib import colormaps
from matplotlib.colors import to_hex
from report_runs import made_grid, made_metrics, made_picture, made_published

from rkkd_cli.report.grid_picture import MAX_FACETS
from rkkd_cli.report.page.drawing import MAX_LINES_IN_TOOLTIP, BokehItem, panel_item
from rkkd_cli.report.page.heatmaps import heatmaps_of
from rkkd_cli.report.page.panels import panels_of
from rkkd_cli.report.page.stills import grid_stills, panel_stills

TWO_KEYS = {ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}
BEGIN, END = "#440154", "#fde725"  # of viridis
PICTURE = made_picture(("run", made_metrics()), published=made_published())
PANELS = {panel.key: panel for panel in panels_of(PICTURE)}


def plot_of(item: BokehItem) -> Any:
    """Return what Bokeh draws of an item, as the page's script does."""
    (plot,) = Document.from_json(item["doc"]).roots
    return plot


def source_columns(item: BokehItem, *columns: str) -> dict[tuple[str, str], Any]:
    """Return columns of each place (row, column) of a heatmap."""
    source = plot_of(item).renderers[0].data_source.data
    places = zip(source["y"], source["x"], strict=True)
    return dict(zip(places, zip(*(source[name] for name in columns), strict=True), strict=True))


def hover_of(plot: Any) -> Any:
    (hover,) = (tool for tool in plot.tools if isinstance(tool, HoverTool))
    return hover


def still(uri: str) -> str:
    """Return the SVG that stands in a data URI."""
    head, _, content = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_a_heatmap_has_a_number_and_a_colour_for_each_finished_cell() -> None:
    (heatmap,) = heatmaps_of(made_grid(TWO_KEYS, failed=[(0.9, 4.0)]), "grid-0")
    assert (heatmap.key, heatmap.title) == ("grid-0-0", "Test accuracy (%)")
    assert heatmap.item["target_id"] == "live-grid-0-0"
    plot = plot_of(heatmap.item)
    assert plot.x_range.factors == ["1", "4"]
    assert plot.y_range.factors == ["0.9", "0.5", "0.1"]  # the first row on top
    assert (plot.xaxis[0].axis_label, plot.yaxis[0].axis_label) == ("temperature", "alpha")
    assert [renderer.glyph.__class__.__name__ for renderer in plot.renderers] == ["Rect", "Text"]
    assert source_columns(heatmap.item, "text", "accuracy") == {
        ("0.1", "1"): ("11.5", "11.50 ± 0.71"),
        ("0.1", "4"): ("14.5", "14.50 ± 0.71"),
        ("0.5", "1"): ("51.5", "51.50 ± 0.71"),
        ("0.5", "4"): ("54.5", "54.50 ± 0.71"),
        ("0.9", "1"): ("91.5", "91.50 ± 0.71"),
    }
    colours = source_columns(heatmap.item, "fill", "ink")
    assert colours["0.1", "1"] == (BEGIN, "#ffffff")
    assert colours["0.9", "1"] == (END, "#000000")
    assert "@row_name = @y, @column_name = @x" in hover_of(plot).tooltips
    assert set(source_columns(heatmap.item, "row_name", "column_name").values()) == {
        ("alpha", "temperature")
    }


def test_published_values_and_the_differences_have_heatmaps_of_their_own() -> None:
    stated = {(0.1, 1.0): 10.0, (0.5, 4.0): 60.0, (0.9, 4.0): 80.0}
    grid = made_grid(TWO_KEYS, published=stated, failed=[(0.9, 4.0)])
    measured, published, difference = heatmaps_of(grid, "grid-0")
    titles = [heatmap.title for heatmap in (measured, published, difference)]
    assert titles == [
        "Test accuracy (%)", "Published (%), last epoch",
        "Measured − published (points), last epoch",
    ]  # fmt: skip
    assert source_columns(measured.item, "accuracy")["0.1", "1"] == (
        "11.50 ± 0.71 (published 10.00, last epoch)",
    )
    assert source_columns(published.item, "text") == {
        ("0.1", "1"): ("10.0",), ("0.5", "4"): ("60.0",), ("0.9", "4"): ("80.0",)
    }  # fmt: skip
    (without_measured,) = source_columns(published.item, "accuracy")["0.9", "4"]
    assert without_measured.strip() == "(published 80.00, last epoch)"
    assert source_columns(difference.item, "text") == {
        ("0.1", "1"): ("+1.5",),
        ("0.5", "4"): ("-5.5",),
    }
    fill = {place: colour for place, (colour,) in source_columns(difference.item, "fill").items()}
    assert fill["0.5", "4"] == "#7f3b08"  # the end of PuOr: the largest difference, and negative
    red, _, blue = (int(fill["0.1", "1"][place : place + 2], 16) for place in (1, 3, 5))
    assert blue > red  # the positive side


def test_where_nothing_differs_the_cell_is_neither_better_nor_worse() -> None:
    *_, difference = heatmaps_of(made_grid(TWO_KEYS, published={(0.1, 1.0): 11.5}), "grid-0")
    ((text, fill),) = source_columns(difference.item, "text", "fill").values()
    assert (text, fill) == ("+0.0", to_hex(colormaps["PuOr"](0.5)))


@pytest.mark.parametrize(
    ("values", "titles"),
    [
        ({ALPHA: ALPHAS}, []),
        (
            TWO_KEYS | {GRAD: (True, False)},
            ["Test accuracy (%), grad = true", "Test accuracy (%), grad = false"],
        ),
        (TWO_KEYS | {GRAD: range(MAX_FACETS + 1)}, []),
    ],
)
def test_there_is_a_heatmap_for_each_facet_unless_they_are_too_many(
    values: dict[str, Any], titles: list[str]
) -> None:
    heatmaps = heatmaps_of(made_grid(values), "grid-0")
    assert [heatmap.title for heatmap in heatmaps] == titles
    assert [heatmap.key for heatmap in heatmaps] == [f"grid-0-{n}" for n in range(len(titles))]


def test_a_panel_has_a_line_and_a_band_for_each_arm_and_an_axis_for_other_levels() -> None:
    item = panel_item(PANELS["rank"])
    plot = plot_of(item)
    assert item["target_id"] == "live-rank"
    assert [axis.axis_label for axis in plot.xaxis] == ["epoch"]
    assert [axis.axis_label for axis in plot.yaxis] == [
        "ranking loss (−1: same order)", "published, normalisation not stated"
    ]  # fmt: skip
    lines = [renderer for renderer in plot.renderers if renderer.tags]
    assert [(line.name, line.tags, line.y_range_name) for line in lines] == [
        ("kd (n = 3)", [0], "default"),
        ("kd_rank (n = 3)", [1], "default"),
        ("kd, published", [2], "published"),
        ("kd_rank, published", [3], "published"),
    ]
    assert [line.data_source.name for line in lines] == [f"line-{n}" for n in range(4)]
    colours = [line.glyph.line_color for line in lines]
    assert colours[:2] == colours[2:]
    bands = [one.name for one in plot.renderers if one.glyph.__class__.__name__ == "VArea"]
    assert bands == ["band-0", "band-1"]
    on_left = [one.name for one in plot.y_range.renderers]
    assert on_left == ["kd (n = 3)", "band-0", "kd_rank (n = 3)", "band-1"]  # bands are inside
    assert plot.extra_y_ranges["published"].renderers == lines[2:]
    assert all(f"@{{text-{number}}}" in hover_of(plot).tooltips for number in range(4))


def test_accuracies_share_their_axis_and_norms_have_a_logarithmic_one() -> None:
    panels = {key: plot_of(panel_item(panel)) for key, panel in PANELS.items()}
    accuracy, norms = panels["test_acc"], panels["gradients0"]
    assert [axis.axis_label for axis in accuracy.yaxis] == ["test accuracy (%)"]
    assert len([one for one in accuracy.y_range.renderers if one.tags]) == 4
    assert norms.yaxis[0].__class__.__name__ == "LogAxis"
    assert accuracy.yaxis[0].__class__.__name__ == "LinearAxis"


def test_more_than_a_few_lines_have_a_tooltip_each() -> None:
    arms = tuple(f"arm{number}" for number in range(MAX_LINES_IN_TOOLTIP + 1))
    picture = made_picture(("run", made_metrics(arms, seeds=1, epochs=2)))
    plot = plot_of(panel_item(panels_of(picture)[0]))
    assert "$name" in hover_of(plot).tooltips
    assert [line.name for line in hover_of(plot).renderers] == [
        curve.label for curve in picture.curves
    ]


def test_one_epoch_is_a_dot_and_a_drop_of_the_rate_a_line() -> None:
    metrics = made_metrics(("kd",), seeds=1, epochs=1)
    plot = plot_of(panel_item(panels_of(made_picture(("run", metrics)))[0]))
    assert "Scatter" in {renderer.glyph.__class__.__name__ for renderer in plot.renderers}
    rows = [metric_row(arm, 0, n, lr=0.1 if n < 3 else 0.01) for arm in ARMS for n in (1, 2, 3, 4)]
    plot = plot_of(panel_item(panels_of(made_picture(("run", pd.DataFrame(rows))))[0]))
    (drops,) = (one for one in plot.renderers if one.glyph.__class__.__name__ == "VSpan")
    assert list(drops.data_source.data["x"]) == [2.5]


def test_each_panel_has_a_still_picture_with_its_labels() -> None:
    stills = panel_stills(PICTURE)
    assert list(stills) == list(PANELS)
    for key, panel in PANELS.items():
        text, arms = still(stills[key]), ("kd (n = 3)", "kd_rank (n = 3)")
        assert f">{panel.title}<" in text
        for word in () if panel.remark else (panel.label, *arms):
            assert f">{word}<" in text
    assert "kd_rank − kd (n = 3), mean and 95 % interval" in still(stills["difference-kl"])
    assert ">kd_rank, published<" in still(stills["rank"])
    without = made_metrics().loc[:, lambda frame: ~frame.columns.str.startswith("grad_")]
    assert [*panel_stills(made_picture(("run", without)))][-3:] == ["rank", "kl", "test_acc"]


def test_a_grid_has_the_still_pictures_of_its_figures() -> None:
    stills = grid_stills(made_grid(TWO_KEYS))
    assert list(stills) == ["marginals", "heatmap"]
    assert all(f">{word}<" in still(stills["heatmap"]) for word in ("alpha", "0.5", "54.5"))
    assert all(f">{word}<" in still(stills["marginals"]) for word in ("alpha = 0.5", "temperature"))
