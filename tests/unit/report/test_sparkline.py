"""Curves in one line of text."""

import math

import pytest

from rkkd_cli.report.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([7, 0], 8, "█▁"),
        ([3.0], 8, "▅"),
        ([2, 2, 2], 8, "▅▅▅"),
        ([0, 0, 1, 1], 2, "▁█"),
        ([0, 1, math.nan, 1], 8, "▁█ █"),
        ([math.nan, math.inf], 8, "  "),
        (list(range(1000)), 8, "▁▂▃▄▅▆▇█"),
    ],
)
def test_values_lie_between_their_extremes(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line
