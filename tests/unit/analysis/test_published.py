"""Published accuracies by arm: read, matched to the student, refused where they are none."""

from pathlib import Path

import pytest

from rkkd_cli.analysis.published import read_published_arms
from rkkd_cli.config.presets import published_path
from rkkd_cli.errors import UserError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stated.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_arm_has_its_accuracy_and_models_alone_are_no_arms(tmp_path: Path) -> None:
    text = 'student,arm,test_acc\n"big (teacher, no distillation)",,90\n'
    path = written(tmp_path, text + "small,kd,70.5\nSmall,dkd,71\nother,at,60\n")
    assert read_published_arms(path, "small") == {"kd": 70.5, "dkd": 71.0}


def test_of_curves_the_last_stated_accuracy_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "arm,epoch,test_acc\nkd,1,10\nkd,2,20\nkd,3,\nkd_rank,1,11\n")
    assert read_published_arms(path, "any") == {"kd": 20.0, "kd_rank": 11.0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alpha,test_acc\n0.1,70\n", "has no column 'arm'"),
        ("arm,loss\nkd,0.1\n", "has no column of accuracies"),
        ("arm,test_acc\nkd,good\n", "must hold numbers, in percent"),
        ("", "cannot be read as CSV"),
    ],
)
def test_what_holds_no_accuracies_by_arm_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_published_arms(written(tmp_path, text), "small")


def test_a_preset_leads_to_its_own_file_and_anything_else_is_a_path() -> None:
    assert published_path("kendall_plugin").name == "kendall_plugin_published.csv"
    assert published_path("mine.csv") == Path("mine.csv")
    with pytest.raises(UserError, match="preset rank_grad has no published values; `rkkd cat"):
        published_path("rank_grad")
