"""The figures of a grid by what they draw: images, lines, error bars, ticks, labels, legends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import (
    heights_of,
    image_of,
    legend_of,
    numbers,
    png_shows,
    points_of,
    texts_of,
    tick_labels,
)
from made_rows import ALPHA, ALPHAS, GRAD, TEMPERATURE, TEMPERATURES, accuracy
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from report_runs import made_grid

from rkkd_cli.report.figures import save_figures
from rkkd_cli.report.grid_figures import MAX_LINES, grid_figures
from rkkd_cli.report.grid_picture import MAX_FACETS, GridPicture
from rkkd_cli.report.style import COLOURS

TWO_KEYS = {ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}
THREE_KEYS = TWO_KEYS | {GRAD: (True, False)}
PUBLISHED = {(0.1, 1.0): 10.0, (0.5, 4.0): 60.0, (0.9, 4.0): 80.0}
# Means over two seeds of 100α + T; the cell of α = 0.9 and T = 4 has failed.
MEANS = np.array([[11.5, 14.5], [51.5, 54.5], [91.5, np.nan]])


def two_keys(**further: Any) -> GridPicture:
    return made_grid(TWO_KEYS, failed=[(0.9, 4.0)], **further)


def drawn(name: str, grid: GridPicture) -> Figure:
    return grid_figures(grid)[name]()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({ALPHA: ALPHAS}, {"marginals"}),
        (TWO_KEYS, {"marginals", "heatmap"}),
        (THREE_KEYS, {"marginals", "heatmap", "parallel"}),
        (TWO_KEYS | {GRAD: range(MAX_FACETS)}, {"marginals", "heatmap", "parallel"}),
        (TWO_KEYS | {GRAD: range(MAX_FACETS + 1)}, {"marginals", "parallel"}),
    ],
)
def test_the_number_of_keys_and_facets_says_what_is_drawn(
    values: dict[str, Any], names: set[str]
) -> None:
    assert set(grid_figures(made_grid(values))) == names


def test_every_figure_is_written_in_every_format_under_its_name(tmp_path: Path) -> None:
    paths = save_figures(grid_figures(two_keys()), tmp_path / "new" / "figures", ["png", "svg"])
    assert [path.name for path in paths] == [
        "marginals.png", "marginals.svg", "heatmap.png", "heatmap.svg"
    ]  # fmt: skip
    for name in ("marginals", "heatmap"):
        assert png_shows(tmp_path / "new" / "figures" / f"{name}.png", drawn(name, two_keys()))
    svg = (tmp_path / "new" / "figures" / "heatmap.svg").read_text(encoding="utf-8")
    assert all(f">{text}<" in svg for text in ("alpha", "temperature", "0.9", "11.5"))


def test_a_heatmap_holds_the_mean_over_seeds_of_each_cell() -> None:
    (axes,) = drawn("heatmap", two_keys()).axes
    np.testing.assert_allclose(image_of(axes), MEANS)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature", "alpha")
    assert tick_labels(axes) == (["1", "4"], ["0.1", "0.5", "0.9"])
    assert axes.images[0].get_cmap().name == "viridis"
    assert axes.images[0].get_clim() == (11.5, 91.5)
    assert axes.get_title() == ""


def test_each_cell_of_a_heatmap_has_its_number_and_a_failed_one_has_none() -> None:
    (axes,) = drawn("heatmap", two_keys()).axes
    assert texts_of(axes) == {
        (row, column): f"{value:.1f}"
        for (row, column), value in np.ndenumerate(MEANS)
        if np.isfinite(value)
    }


def test_numbers_stand_out_from_their_cell() -> None:
    (axes,) = drawn("heatmap", two_keys()).axes
    ink = {text.get_text(): text.get_color() for text in axes.texts}
    assert (ink["11.5"], ink["91.5"]) == ("white", "black")  # on dark violet, on yellow


def test_the_title_says_which_epoch_counts_and_how_many_seeds() -> None:
    titles = [drawn("heatmap", two_keys(seeds=seeds)).get_suptitle() for seeds in (1, 2)]
    assert titles == [
        "my-grid: test accuracy (%), last epoch, one seed",
        "my-grid: test accuracy (%), last epoch, mean of 2 seeds",
    ]


def test_a_heatmap_of_equal_cells_has_a_scale_all_the_same() -> None:
    flat = made_grid(TWO_KEYS, accuracy=lambda *_: 50.0, seeds=1)
    (axes,) = drawn("heatmap", flat).axes
    assert axes.images[0].get_clim() == (50.0, 51.0)


@pytest.mark.parametrize(("columns", "count"), [(20, 400), (21, 0)])
def test_only_a_heatmap_with_room_for_them_has_numbers(columns: int, count: int) -> None:
    values = {
        ALPHA: [row / 20 for row in range(20)],
        TEMPERATURE: [float(t) for t in range(columns)],
    }
    axes, *scales = drawn("heatmap", made_grid(values, seeds=1)).axes
    assert len(axes.texts) == count
    assert len(scales) == (count == 0)  # without numbers the colours need a scale
    assert image_of(axes).shape == (20, columns)


def test_a_third_key_makes_heatmaps_with_one_scale() -> None:
    weights = (0.0, 1.0, 2.0, 3.0)
    grid = made_grid(
        TWO_KEYS | {"rank.weight": weights},
        accuracy=lambda alpha, t, weight: accuracy(alpha, t) + weight,
    )
    figure = drawn("heatmap", grid)
    place = figure.axes[0].get_subplotspec()
    assert place is not None
    assert place.get_gridspec().get_geometry() == (2, 3)
    facets, empty = figure.axes[:4], figure.axes[4:]
    assert [axes.get_title() for axes in facets] == [f"weight = {w:g}" for w in weights]
    first = image_of(facets[0])
    for axes, weight in zip(facets, weights, strict=True):
        np.testing.assert_allclose(image_of(axes), first + weight)
        assert axes.images[0].get_clim() == (11.5, 97.5)
    assert [axes.axison for axes in empty] == [False, False]


def test_keys_that_end_alike_are_written_whole_and_words_as_in_toml() -> None:
    values = {"rank.weight": (True, False), "method.weight": ("low\n", "high")}
    grid = made_grid(values, accuracy=lambda one, two: one + len(two))
    (axes,) = drawn("heatmap", grid).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("method.weight", "rank.weight")
    assert tick_labels(axes) == (["low\\n", "high"], ["true", "false"])


def test_beside_published_values_heatmaps_show_measured_published_and_the_difference() -> None:
    figure = drawn("heatmap", two_keys(published=PUBLISHED))
    measured, published, difference, scale = figure.axes
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["measured", "published", "measured − published"]
    nan = np.nan
    np.testing.assert_allclose(image_of(measured), MEANS)
    np.testing.assert_allclose(image_of(published), [[10, nan], [nan, 60], [nan, 80]])
    np.testing.assert_allclose(image_of(difference), [[1.5, nan], [nan, -5.5], [nan, nan]])
    for axes in figure.axes[:3]:
        assert tick_labels(axes) == (["1", "4"], ["0.1", "0.5", "0.9"])
    figure.draw_without_rendering()
    assert tick_labels(scale)[1] == ["-5.5", "+0.0", "+5.5"]  # it shows its centre


def test_published_values_and_differences_have_scales_of_their_own() -> None:
    figure = drawn("heatmap", two_keys(published=PUBLISHED))
    images = [axes.images[0] for axes in figure.axes[:3]]
    assert [image.get_clim() for image in images] == [(11.5, 91.5), (10, 80), (-5.5, 5.5)]
    assert [image.get_cmap().name for image in images] == ["viridis", "viridis", "PuOr"]


def test_differences_have_a_sign() -> None:
    *_, difference, _ = drawn("heatmap", two_keys(published=PUBLISHED)).axes
    assert texts_of(difference) == {(0, 0): "+1.5", (1, 1): "-5.5"}


def test_where_nothing_differs_the_scale_is_one_point_wide_to_either_side() -> None:
    *_, difference, _ = drawn("heatmap", two_keys(published={(0.1, 1.0): 11.5})).axes
    assert image_of(difference)[0, 0] == 0
    assert difference.images[0].get_clim() == (-1, 1)


def test_published_values_of_unmeasured_cells_alone_leave_an_empty_scale_of_one_point() -> None:
    *_, difference, _ = drawn("heatmap", two_keys(published={(0.9, 4.0): 80.0})).axes
    assert np.isnan(image_of(difference)).all()
    assert difference.images[0].get_clim() == (-1, 1)


def test_facets_without_published_values_have_no_difference() -> None:
    figure = drawn("heatmap", made_grid(THREE_KEYS, published={(0.1, 1.0, False): 10.0}))
    titles = [axes.get_title() for axes in figure.axes[:6] if axes.axison]
    assert titles == [
        "grad = true", "grad = false", "published, grad = true", "published, grad = false",
        "measured − published, grad = false",
    ]  # fmt: skip
    np.testing.assert_allclose(image_of(figure.axes[4])[0], [1.5, np.nan])


def test_two_keys_have_a_panel_each_of_the_mean_over_the_other() -> None:
    figure = drawn("marginals", two_keys())
    alpha, temperature = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["alpha", "temperature"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["test accuracy (%)", ""]
    assert alpha.get_ylim() == temperature.get_ylim()
    assert tick_labels(alpha)[0] == ["0.1", "0.5", "0.9"]
    assert tick_labels(temperature)[0] == ["1", "4"]
    places, means = points_of(alpha)["mean over temperature"]
    assert places == [0, 1, 2]
    assert means == pytest.approx([13.0, 53.0, 91.5])
    assert heights_of(temperature)["mean over alpha"] == pytest.approx([51.5, 34.5])
    assert figure.get_suptitle() == "my-grid: last epoch, mean of 2 seeds"


def test_thin_lines_are_the_values_of_the_other_key() -> None:
    alpha, temperature = drawn("marginals", two_keys()).axes
    assert legend_of(alpha) == ["temperature = 1", "temperature = 4", "mean over temperature"]
    assert heights_of(alpha)["temperature = 1"] == pytest.approx([11.5, 51.5, 91.5])
    with_gap = heights_of(alpha)["temperature = 4"]
    assert with_gap == pytest.approx([14.5, 54.5, np.nan], nan_ok=True)
    assert heights_of(temperature)["alpha = 0.5"] == pytest.approx([51.5, 54.5])
    thin, thick = alpha.lines[0], alpha.lines[-1]
    assert thin.get_linewidth() < thick.get_linewidth()
    assert thick.get_color() == "black"


@pytest.mark.parametrize("count", [MAX_LINES, MAX_LINES + 1])
def test_too_many_values_of_the_other_key_have_no_lines(count: int) -> None:
    values = {ALPHA: ALPHAS, TEMPERATURE: [float(t) for t in range(1, count + 1)]}
    alpha, temperature = drawn("marginals", made_grid(values, seeds=1)).axes
    assert len(alpha.lines) == (count + 1 if count <= MAX_LINES else 1)
    assert len(temperature.lines) == len(ALPHAS) + 1


def test_three_keys_have_the_mean_over_both_others_alone() -> None:
    alpha, temperature, grad = drawn("marginals", made_grid(THREE_KEYS)).axes
    assert heights_of(alpha) == {"mean over temperature, grad": pytest.approx([18.0, 58.0, 98.0])}
    assert heights_of(temperature) == {"mean over alpha, grad": pytest.approx([56.5, 59.5])}
    assert heights_of(grad) == {"mean over alpha, temperature": pytest.approx([63.0, 53.0])}
    assert tick_labels(grad)[0] == ["true", "false"]


def test_one_key_has_error_bars_of_a_sample_deviation() -> None:
    (axes,) = drawn("marginals", made_grid({ALPHA: ALPHAS}, failed=[(0.5,)])).axes
    assert heights_of(axes)["measured"] == pytest.approx([10.5, 90.5])
    assert tick_labels(axes)[0] == ["0.1", "0.9"]
    (bars,) = (one for one in axes.collections if isinstance(one, LineCollection))
    deviation = np.sqrt(0.5)  # of two seeds that are 1 apart
    ends = [[float(y) for _, y in np.asarray(bar)] for bar in bars.get_segments()]
    assert ends == [pytest.approx([mean - deviation, mean + deviation]) for mean in (10.5, 90.5)]


def test_one_seed_has_no_error_bars() -> None:
    (axes,) = drawn("marginals", made_grid({ALPHA: ALPHAS}, seeds=1)).axes
    assert list(axes.collections) == []
    assert heights_of(axes)["measured"] == pytest.approx([10, 50, 90])


def test_references_are_level_lines_unless_they_lie_far_away() -> None:
    references = {"baseline": 40.0, "teacher": 95.0, "far": 400.0}
    for axes in drawn("marginals", two_keys(references=references)).axes:
        level = [line for line in axes.lines if line.get_label() in references]
        heights = {line.get_label(): numbers(line.get_ydata()) for line in level}
        assert heights == {"baseline": [40, 40], "teacher": [95, 95]}
        assert [line.get_color() for line in level] == list(COLOURS[1:3])
        assert legend_of(axes)[-2:] == ["baseline", "teacher"]


def cells_in(axes: Axes) -> list[Line2D]:
    """Return the lines of cells: the others are the axes of the three keys."""
    return [line for line in axes.lines if len(numbers(line.get_xdata())) == 4]


def values_in(axes: Axes) -> dict[str, tuple[float, float]]:
    """Return where the values of the keys stand."""
    return {note.get_text(): note.xy for note in axes.texts if isinstance(note, Annotation)}


def test_parallel_coordinates_have_an_axis_for_each_key_and_the_accuracy() -> None:
    axes, scale = drawn("parallel", made_grid(THREE_KEYS)).axes
    assert tick_labels(axes) == (["alpha", "temperature", "grad", "test acc"], [])
    assert scale.get_ylabel() == "test accuracy (%)"
    placed = values_in(axes)
    assert {placed.pop("true"), placed.pop("false")} == {(2, 0.0), (2, 1.0)}
    assert placed == {"0.1": (0, 0), "0.5": (0, 0.5), "0.9": (0, 1), "1": (1, 0), "4": (1, 1)}


def test_parallel_coordinates_have_a_line_for_each_finished_cell_the_best_on_top() -> None:
    grid = made_grid(THREE_KEYS, failed=[(0.9, 4.0, True)])
    axes, _ = drawn("parallel", grid).axes
    cells = [numbers(line.get_ydata()) for line in cells_in(axes)]
    assert len(cells) == 11
    accuracies = [cell[-1] for cell in cells]
    assert accuracies == sorted(accuracies)
    placed = values_in(axes)
    assert cells[0] == [0.0, 0.0, placed["false"][1], 0.0]
    assert cells[-1] == [1.0, 0.0, placed["true"][1], 1.0]


def test_parallel_coordinates_are_coloured_by_the_accuracy() -> None:
    axes, _ = drawn("parallel", made_grid(THREE_KEYS)).axes
    lines = cells_in(axes)
    viridis = ["#440154", "#fde725"]  # where it begins and ends
    assert [to_hex(line.get_color()) for line in (lines[0], lines[-1])] == viridis
