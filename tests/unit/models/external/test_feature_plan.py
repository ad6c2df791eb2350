"""Which feature maps of a network stand for its stages."""

import pytest

from rkkd_cli.models.external.feature_plan import evenly_spaced, stage_ends


@pytest.mark.parametrize(
    ("sides", "image", "taken"),
    [
        ([112, 112, 56, 28, 14, 7], 224, [1, 2, 3, 4, 5]),
        ([149, 147, 147, 73, 71, 35, 17, 8], 299, [2, 4, 5, 6, 7]),
        ([32, 16, 32, 16], 32, [0, 3]),
        ([14] * 12, 224, [11]),
        ([8], 8, [0]),
        ([], 8, []),
    ],
)
def test_the_last_map_of_every_stage(sides: list[int], image: int, taken: list[int]) -> None:
    assert stage_ends([(side, side) for side in sides], (image, image)) == taken


@pytest.mark.parametrize(
    ("count", "taken"), [(12, [2, 5, 8, 11]), (4, [0, 1, 2, 3]), (3, [0, 1, 2]), (6, [1, 2, 4, 5])]
)
def test_evenly_spaced(count: int, taken: list[int]) -> None:
    assert evenly_spaced(count) == taken
