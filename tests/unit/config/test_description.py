"""What an experiment says of itself: for its readers, and without influence on any number."""

import pytest

from rkkd_cli.config.arms import resolve_arms
from rkkd_cli.config.compatibility import continued, differences, same_numbers
from rkkd_cli.config.experiment import DESCRIPTION
from rkkd_cli.config.grid import cell_hash, check_axes
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import UserError


@pytest.mark.parametrize("key", DESCRIPTION)
def test_a_description_changes_neither_numbers_nor_cells(key: str) -> None:
    plain = load_experiment("rank_grad")
    other = load_experiment("rank_grad", [Override(key, "something else")])
    assert getattr(other, key) != getattr(plain, key)
    assert same_numbers(plain, other)
    assert differences(plain, other) == ""
    assert continued(plain, other, "run") == other
    for one, two in zip(resolve_arms(plain), resolve_arms(other), strict=True):
        assert cell_hash(one, 0) == cell_hash(two, 0)


@pytest.mark.parametrize("key", DESCRIPTION)
def test_a_description_cannot_be_varied(key: str) -> None:
    with pytest.raises(UserError, match=f"{key} cannot be varied"):
        check_axes({key: ("a", "b")})
