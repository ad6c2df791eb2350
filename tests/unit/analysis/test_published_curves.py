"""Published curves are read as they are stated, with the reason why a level is not ours."""

from pathlib import Path

import pytest

from rkkd_cli.analysis.published_curves import has_curves, read_published_curves
from rkkd_cli.config.presets import published_path
from rkkd_cli.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_presets_curves_have_a_source_and_levels_of_their_own() -> None:
    published = read_published_curves(published_path("rank_grad_cifar100"))
    assert "Ablation of RKKD" in published.source
    for column, caveat in (("rank", "normalisation not stated"), ("kl", "not said to be × T²")):
        curves = published.of(column)
        assert [one.arm for one in curves] == ["kd", "kd_rank"]
        assert {one.caveat for one in curves} == {caveat}
    accuracy = published.of("test_acc")
    assert {one.caveat for one in accuracy} == {""}
    assert accuracy[0].values.index.is_monotonic_increasing
    assert published.of("kendall_tau") == []


def test_a_column_of_our_name_has_our_definition(tmp_path: Path) -> None:
    path = write(tmp_path, "arm,epoch,rank\nkd,2,-0.5\nkd,1,-0.25\nkd,3,\n")
    (curve,) = read_published_curves(path).of("rank")
    assert curve.caveat == ""
    assert list(curve.values.items()) == [(1, -0.25), (2, -0.5)]
    assert read_published_curves(path).source == "theirs.csv"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("arm,test_acc\nkd,50\n", "no column 'epoch'"),
        ("epoch,test_acc\n1,50\n", "no column 'arm'"),
        ("arm,epoch,loss\nkd,1,2\n", "no column that is drawn"),
        ("arm,epoch,test_acc\nkd,1,fifty\n", "must hold numbers"),
        ("arm,epoch,test_acc\nkd,first,5\n", "must hold numbers"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_file_without_curves_is_refused_with_the_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        read_published_curves(write(tmp_path, text))


def test_a_table_of_accuracies_is_told_from_curves(tmp_path: Path) -> None:
    assert not has_curves(write(tmp_path, "arm,test_acc\nkd,50\n"))
    assert has_curves(published_path("rank_grad_cifar100"))
