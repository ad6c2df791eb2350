"""Records of the task embedding: what is read, compared, judged and drawn is about MAP@R."""

from pathlib import Path

import pandas as pd
import pytest
from made_rows import ALPHA, TEMPERATURE, arm_seed_epoch, metric_row
from report_runs import (
    made_experiment,
    made_manifest,
    made_metrics,
    made_picture,
    made_run,
    of_task,
)

from rkkd_cli.analysis.compare import compare_arms
from rkkd_cli.analysis.findings import judge_findings
from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.numbers import more_is_better
from rkkd_cli.analysis.pairing import compare_runs
from rkkd_cli.analysis.published import read_published
from rkkd_cli.analysis.published_curves import read_published_curves
from rkkd_cli.analysis.selection import select_rows
from rkkd_cli.analysis.summary import mean_std, progress_by_arm, summarise
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_grid
from rkkd_cli.config.tasks import EMBEDDING
from rkkd_cli.errors import UserError
from rkkd_cli.records.metrics import parse_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.curves import run_figures
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.grid_text import grid_notes, lay_out
from rkkd_cli.report.page.page import report_page
from rkkd_cli.report.page.sources import PageSource
from rkkd_cli.report.run_text import published_note, summary_columns

METRICS = made_metrics(task=EMBEDDING)
TEACHER = {
    "model": "big", "source": "trained", "parameters": 1, "sha256": "",
    "test_map_at_r": 61.5, "test_recall_at_1": 77.25,
}  # fmt: skip


def grid_of(published: str | None = None) -> GridRecord:
    """Return a grid of two weights by two temperatures; an arm's MAP@R is 10 · its weight."""
    axes = {ALPHA: "0.1,0.9", TEMPERATURE: "1,10"}
    words = [*of_task(EMBEDDING), Override("training.epochs", 1), Override("seeds", (0,))]
    experiment = load_grid("rank_grad", words, axes, CellSelection())
    rows = [
        metric_row(arm.name, 0, 1, 1.0, EMBEDDING, test_recall_at_1=50.0,
                   test_map_at_r=10 * arm.experiment.method.alpha)
        for arm in experiment.resolved_arms
    ]  # fmt: skip
    manifest = made_manifest("made").model_copy(update={"teachers": [TEACHER]})
    run = RunDirectory(Path("made"))
    return GridRecord.of(run, manifest, experiment, pd.DataFrame(rows), published=published)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_by_the_columns_of_its_task() -> None:
    text = METRICS.to_csv(index=False)
    pd.testing.assert_frame_equal(parse_metrics(text, Path("metrics.csv")), METRICS)
    with pytest.raises(UserError, match=r"lacks the column 'test_recall_at_4'"):
        parse_metrics(text.replace("test_recall_at_4", "x"), Path("metrics.csv"))
    swapped = text.replace("test_r_precision,test_recall_at_1", "test_recall_at_1,test_r_precision")
    with pytest.raises(UserError, match="or in another order"):
        parse_metrics(swapped, Path("metrics.csv"))


def test_a_summary_has_the_metrics_of_the_task() -> None:
    (first, second) = summarise(METRICS)
    shown = [column.short_label for column in summary_columns(EMBEDDING)]
    assert shown[:3] == ["test MAP@R (%)", "test R-precision (%)", "test Recall@1 (%)"]
    assert tuple(first.metrics) == EMBEDDING.summary_columns
    assert second.metrics["test_map_at_r"].mean > first.metrics["test_map_at_r"].mean
    assert [*progress_by_arm(METRICS)[0].metrics] == ["rank", "kl", "test_map_at_r"]


def test_the_best_epoch_is_that_of_map_at_r_or_of_what_is_published() -> None:
    rows = pd.DataFrame([
        metric_row("kd", 0, epoch, 1.0, EMBEDDING, test_map_at_r=level, test_recall_at_1=-level)
        for epoch, level in ((1, 3.0), (2, 5.0), (3, 4.0))
    ])  # fmt: skip
    assert select_rows(rows, "best")["epoch"].tolist() == [2]
    assert select_rows(rows, "best", best_by="test_recall_at_1")["epoch"].tolist() == [1]
    with pytest.raises(UserError, match="no validation split"):
        compare_arms(METRICS, select="val")
    chosen = METRICS.assign(val_map_at_r=-METRICS["epoch"])
    (first, *_) = compare_arms(chosen, select="val")
    assert first.epochs_first == (1,)
    assert compare_arms(chosen, ["kl"], "val", monitors={})[0].metric == "kl"


def test_arms_are_compared_by_the_metrics_of_the_task() -> None:
    found = compare_arms(METRICS)
    assert [c.metric for c in found] == list(EMBEDDING.compared_columns)
    assert found[0].difference.mean > 0
    assert all(more_is_better(f"test_{metric}") for metric in EMBEDDING.held_out)
    assert all(more_is_better(column) for column in ("test_map_at_r_ema", "val_acc_ema"))
    assert not more_is_better("test_triplet")


def test_runs_of_two_tasks_are_not_compared_or_drawn_together() -> None:
    images, embeddings = made_run("images"), made_run("embeddings", task=EMBEDDING)
    sentence = "no metric in common: their tasks are classification and embedding"
    with pytest.raises(UserError, match=sentence):
        compare_runs(images, embeddings, ["kl"])
    with pytest.raises(UserError, match=sentence):
        report_page(PageSource([images, embeddings]))


def test_findings_are_about_map_at_r() -> None:
    words = {"ahead": {"claim": "ahead", "better": "kd_rank", "worse": "kd"}}
    experiment = made_experiment(EMBEDDING, Override("findings", words))
    assert experiment.findings["ahead"].metric == "test_map_at_r"
    found = {finding.name: finding for finding in judge_findings(experiment, METRICS)}
    claim = found["better MAP@R at all stages"]
    assert claim.claim == "kd_rank has the higher test MAP@R than kd at all stages of training."
    assert all("points" in part.numbers for part in claim.parts)
    assert "(test_map_at_r)" in found["ahead"].parts[0].numbers


def test_a_grid_has_map_at_r_in_its_cells() -> None:
    grid = grid_of()
    cells = grid.frame[grid.frame["arm"] != "baseline"]
    assert cells["last_map_at_r"].tolist() == [1.0, 1.0, 9.0, 9.0]
    assert {"triplet", "test_recall_at_1", "test_triplet"} <= {*grid.frame}
    assert not {"last_acc", "ce", "train_acc"} & {*grid.frame}
    assert grid.references["teacher big"] == 61.5
    assert [cell.text for cell in lay_out(*grid.tables).rows[1]] == ["0.9", "9.00", "9.00"]
    assert grid_notes(grid)[0] == "Test MAP@R in percent, last epoch, one seed."
    assert GridPicture.of(grid).metric.label == "test MAP@R (%)"


@pytest.mark.parametrize("column", ["Recall@1", "test_recall_at_1", "recall_at_1"])
def test_a_published_metric_stands_beside_the_same_one_of_ours(column: str, tmp_path: Path) -> None:
    text = f"student,alpha,temperature,{column}\nbig,,,80\ndigits_student,0.9,1,55\n"
    grid = grid_of(str(written(tmp_path, text)))
    (compared,) = grid.published.values()
    assert (compared.published.acc, compared.measured) == (55, mean_std(pd.Series([50.0])))
    notes = "\n".join(grid_notes(grid))
    assert "Published and beside it: test Recall@1 (%)." in notes
    assert "Recall@1" not in published_note([])
    (table,) = grid.tables
    assert lay_out(table).rows[1][1].text == "9.00 (measured 50.00; 55.00, -5.00)"


def test_a_published_teacher_stands_beside_its_own_metric(tmp_path: Path) -> None:
    text = "student,arm,recall_at_1\ndigits_teacher,,80\n,alpha=0.9_temperature=1,55\n"
    grid = grid_of(str(written(tmp_path, text)))
    teacher = {**TEACHER, "model": "digits_teacher"}
    grid.manifest.teachers[:] = [teacher]  # type: ignore[list-item]
    assert "teacher digits_teacher: 61.50 % (test Recall@1 77.25 %, published 80.00 %)" in (
        grid_notes(grid)
    )


def test_of_several_published_metrics_the_main_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "arm,recall_at_1,MAP@R\nkd,70,50\n")
    stated = read_published(path, made_experiment(EMBEDDING))
    assert (stated.metric, stated.arms["kd"].acc) == ("test_map_at_r", 50)
    with pytest.raises(UserError, match="no column of accuracies; call it test_acc_percent"):
        read_published(path, made_experiment())
    with pytest.raises(UserError, match=r"no column of MAP@R; call it test_map_at_r_percent"):
        read_published(written(tmp_path, "arm,accuracy\nkd,70\n"), made_experiment(EMBEDDING))
    curves = read_published_curves(written(tmp_path, "arm,epoch,test_recall_at_1\nkd,1,70\n"))
    assert [curve.arm for curve in curves.curves("test_recall_at_1")] == ["kd"]


def test_figures_have_a_panel_of_each_quantity_of_the_task() -> None:
    picture = made_picture(("run", METRICS), teachers=[("big", 85.0)])
    figures = run_figures(picture)
    assert [*figures][:4] == ["triplet", "rank", "kl", "test_map_at_r"]
    sheet = figures["sheet"]()
    titles = [axes.get_title() for axes in sheet.axes[:4]]
    assert titles == [
        "Triplet loss, training", "Ranking loss, training", "KL divergence, training", "Test MAP@R",
    ]  # fmt: skip
    assert sheet.axes[3].get_ylabel() == "test MAP@R (%)"
    assert [level.value for level in picture.references_of("test_map_at_r")] == [85.0]
    assert not picture.references_of("test_acc")


def test_a_page_speaks_of_map_at_r_and_never_of_accuracy() -> None:
    experiment = Experiment.model_validate(
        made_experiment(EMBEDDING).model_dump() | {"notes": "", "finding": "", "findings": {}}
    )
    run = made_run(task=EMBEDDING, text="made")
    run.manifest.teachers.append(TEACHER)  # type: ignore[arg-type]
    object.__setattr__(run, "experiment", experiment)
    page = report_page(PageSource([run]))
    assert "#figure-difference-test_map_at_r" in page
    text = page[page.index("<body") :].partition("<script")[0]
    assert "test MAP@R" in text
    assert "big (trained): 61.50 % test MAP@R" in text
    assert "accuracy" not in text
    assert "test_acc" not in text


def test_many_arms_show_the_extremes_of_map_at_r() -> None:
    arms = tuple(f"arm{number}" for number in range(12))
    rows = [
        metric_row(*row, 1.0, EMBEDDING, test_map_at_r=float(arms.index(row[0])))
        for row in arm_seed_epoch(arms, seeds=1, epochs=1)
    ]
    picture = made_picture(("run", pd.DataFrame(rows)))
    assert [curve.end_level for curve in picture.curves] == [*map(float, range(12))]
