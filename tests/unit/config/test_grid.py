"""The cells of a grid, their baselines and names, samples, and grids that grow."""

from typing import Any

import pytest

from rkkd_cli.config.compatibility import extended_grid
from rkkd_cli.config.experiment import ARM_NAME, Experiment
from rkkd_cli.config.grid import (
    CellSelection,
    cell_hash,
    count_cells,
    grid_arms,
    is_baseline,
    product,
    sample,
    varied_texts,
)
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment, load_grid, read_experiment, to_toml
from rkkd_cli.errors import UserError

AXES = {"method.alpha": (0.1, 0.5, 0.9), "method.temperature": (1.0, 4.0)}
WIDE = {"method.alpha": tuple(range(40)), "training.lr": tuple(range(50)), "rank.weight": (1, 2)}


def grid(
    axes: dict[str, tuple[Any, ...]], *overrides: str, preset: str = "rank_grad"
) -> Experiment:
    return load_grid(preset, [parse_override(text) for text in overrides], axes, CellSelection())


def test_the_product_and_one_baseline() -> None:
    experiment = grid(AXES)
    baseline, *cells = experiment.resolved_arms
    assert baseline.name == "baseline"
    assert (baseline.experiment.method.name, baseline.experiment.rank.grad) == ("ce", False)
    pairs = [(c.experiment.method.alpha, c.experiment.method.temperature) for c in cells]
    assert pairs == [(a, t) for a in (0.1, 0.5, 0.9) for t in (1.0, 4.0)]
    assert [c.name for c in cells][:2] == ["alpha=0.1_temperature=1", "alpha=0.1_temperature=4"]


def test_what_concerns_the_student_alone_has_a_baseline_each() -> None:
    arms = grid({"method.alpha": (0.1, 0.5), "training.lr": (0.1, 0.01)}).arms
    assert [name for name in arms if is_baseline(name)] == ["baseline_lr=0.1", "baseline_lr=0.01"]


def test_columns_are_empty_where_a_key_says_nothing() -> None:
    experiment = grid({"method.alpha": (0.5,), "training.milestones": ((0.5, 0.75),)})
    texts = {arm: varied_texts(experiment, arm) for arm in experiment.arms}
    assert texts == {
        "baseline_milestones=0.5+0.75": {"method.alpha": "", "training.milestones": "[0.5, 0.75]"},
        "alpha=0.5_milestones=0.5+0.75": {
            "method.alpha": "0.5", "training.milestones": "[0.5, 0.75]",
        },
    }  # fmt: skip


@pytest.mark.parametrize("value", ["top:0.1", "a/b", "x" * 80, "é", "a b"])
def test_any_value_gives_a_name_that_an_arm_can_have(value: str) -> None:
    for name in grid_arms([{"rank.channels": value}, {"rank.channels": value + "c"}]):
        assert ARM_NAME.fullmatch(name)


def test_values_that_are_spelt_alike_stay_two_cells() -> None:
    arms = grid_arms([{"rank.channels": "top:0.1"}, {"rank.channels": "top-0.1"}])
    assert len(arms) == 3


def test_keys_that_end_alike_are_written_out() -> None:
    names = list(grid_arms([{"training.lr": 0.1, "teacher.training.lr": 0.2}]))
    assert names[-1] == "training.lr=0.1_teacher.training.lr=0.2"


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_a_larger_sample_begins_with_the_smaller_one(sampler: str) -> None:
    small, large = sample(WIDE, 7, sampler, 3), sample(WIDE, 40, sampler, 3)
    assert large[:7] == small
    assert len({tuple(cell.values()) for cell in large}) == 40
    assert all(cell[key] in WIDE[key] for cell in large for key in WIDE)
    assert sample(WIDE, 7, sampler, 4) != small


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_a_sample_of_all_cells_is_the_product(sampler: str) -> None:
    cells = sample(AXES, count_cells(AXES), sampler, 0)
    assert sorted(map(str, cells)) == sorted(map(str, product(AXES)))


def test_sobol_covers_every_value_of_a_key_evenly() -> None:
    cells = sample(
        {"method.alpha": tuple(range(8)), "rank.weight": tuple(range(8))}, 16, "sobol", 0
    )
    for key in ("method.alpha", "rank.weight"):
        assert sorted(cell[key] for cell in cells) == sorted([*range(8)] * 2)


@pytest.mark.parametrize(
    ("axes", "selection", "message"),
    [
        ({"seeds": (0, 1)}, CellSelection(), "--seeds"),
        ({"method": (1,)}, CellSelection(), "is a section"),
        ({"method.alhpa": (1,)}, CellSelection(), "did you mean 'method.alpha'"),
        (WIDE, CellSelection(), "4,000 cells"),
        (AXES, CellSelection(sample=7), "6 cells"),
        (AXES, CellSelection(sample=2, sampler="sobl"), "did you mean 'sobol'"),
    ],
)
def test_what_cannot_be_a_grid(axes: Any, selection: CellSelection, message: str) -> None:
    with pytest.raises(UserError, match=message):
        selection.cells(axes)


def test_a_refused_value_names_its_cell() -> None:
    with pytest.raises(UserError, match=r"alpha=2_temperature=1.*method\.alpha"):
        grid({"method.alpha": (0.5, 2), "method.temperature": (1,)})


def test_a_preset_with_varied_keys_is_a_grid_without_flags() -> None:
    experiment = load_experiment("alpha_temperature")
    assert len(experiment.arms) == 46
    assert load_grid("alpha_temperature", [], {}, CellSelection()) == experiment


def test_a_grid_survives_its_own_file(tmp_path: Any) -> None:
    experiment = grid({"training.milestones": ((0.5, 0.75), (0.6,)), "rank.grad": (True, False)})
    path = tmp_path / "experiment.toml"
    path.write_text(to_toml(experiment), encoding="utf-8")
    assert read_experiment(path) == experiment
    assert load_grid(str(path), [], {}, CellSelection()) == experiment


def test_arms_of_a_presets_own_are_not_dropped_in_silence(tmp_path: Any) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        to_toml(load_experiment("rank_grad")).replace("[arms.kd.rank]", "[arms.mine.rank]")
    )
    with pytest.raises(UserError, match="names arms of its own"):
        load_grid(str(path), [], AXES, CellSelection())


def test_a_varied_key_cannot_be_set_for_all() -> None:
    with pytest.raises(UserError, match=r"--vary method\.alpha"):
        grid(AXES, "method.alpha=0.3")


def test_a_grid_grows_by_new_values_and_seeds_only() -> None:
    first = grid({"method.alpha": (0.5,), "method.temperature": (1.0, 4.0)}, "seeds=0")
    more = grid({"method.alpha": (0.1, 0.5), "method.temperature": (4,)}, "seeds=[0, 1]")
    both = extended_grid(first, more, "run")
    assert list(both.arms) == [*first.arms, "alpha=0.1_temperature=4"]
    assert both.seeds == (0, 1)
    assert both.vary == {"method.alpha": (0.1, 0.5), "method.temperature": (1.0, 4.0)}
    assert extended_grid(both, first, "run") == both


@pytest.mark.parametrize(
    ("axes", "overrides", "message"),
    [
        (AXES, ("training.lr=0.7",), r"training\.lr \(0\.02 → 0\.7\)"),
        ({"method.alpha": (0.1,)}, (), r"varies method\.alpha, method\.temperature, not"),
    ],
)
def test_another_base_is_refused(axes: Any, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        extended_grid(grid(AXES), grid(axes, *overrides), "run")


def test_a_cell_is_known_by_what_it_computes() -> None:
    first, other = (grid(AXES, *o).resolved_arms[1] for o in ((), ("title='x'", "device='cpu'")))
    assert cell_hash(first, 0) == cell_hash(other, 0)
    changed = grid(AXES, "training.epochs=31").resolved_arms[1]
    assert len({cell_hash(first, 0), cell_hash(first, 1), cell_hash(changed, 0)}) == 3
