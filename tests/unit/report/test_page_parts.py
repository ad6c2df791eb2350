"""The parts of the report's page: what is drawn, what is kept small, what is escaped."""

import base64
import csv
import gzip
import json
import re
from dataclasses import replace

import pytest
from made_rows import ALPHA, ALPHAS, TEMPERATURE, TEMPERATURES
from report_runs import (
    ATTACK,
    compared,
    made_grid,
    made_metrics,
    made_picture,
    made_published,
    made_run,
)

from rkkd_cli.analysis.summary import MeanStd
from rkkd_cli.report.page import facts, panels, tables
from rkkd_cli.report.page.headline import Headline, headline_of
from rkkd_cli.report.page.judged import ComparisonBlock, compare_arms_of, comparison_blocks
from rkkd_cli.report.page.page import json_in_script, report_page
from rkkd_cli.report.page.sources import PageGrid, PageRun, PageSource
from rkkd_cli.report.run_text import PUBLISHED_COLUMNS

MOST_BYTES = 5_000_000


def blocks_of(*runs: PageRun) -> list[ComparisonBlock]:
    return comparison_blocks(runs, [compare_arms_of(run) for run in runs])


def test_panels_hold_the_rows_of_every_seed() -> None:
    metrics = made_metrics(seeds=2, epochs=4)
    picture = made_picture(("run", metrics), published=made_published())
    *_, rank = (panel for panel in panels.panels_of(picture) if panel.key == "rank")
    ours, _, theirs, _ = rank.lines
    rows = metrics[(metrics["arm"] == "kd") & (metrics["seed"] == 1)]
    assert ours.epochs == list(rows["epoch"])
    assert ours.by_seed["1"] == pytest.approx(list(rows["rank"]), rel=1e-5)
    assert theirs.stated
    assert theirs.own_axis
    assert theirs.groups == [2]
    assert rank.own_axis == "published, normalisation not stated"


def test_a_seed_that_is_behind_has_gaps_and_no_numbers_of_its_own_making() -> None:
    metrics = made_metrics(seeds=2, epochs=4)
    metrics = metrics[(metrics["seed"] == 0) | (metrics["epoch"] < 3)]
    drawn = {panel.key: panel for panel in panels.panels_of(made_picture(("run", metrics)))}
    assert drawn["rank"].lines[0].by_seed["1"][2:] == [None, None]


def test_of_many_arms_few_are_shown_at_first_and_no_more_than_fit() -> None:
    arms = ("baseline", *(f"arm{number}" for number in range(90)))
    picture = made_picture(("run", made_metrics(arms, seeds=1, epochs=2)))
    curves = picture.curves
    shown = [curves[number].arm for number in panels.shown_at_first(curves)]
    assert "baseline" in shown
    assert len(shown) <= 3
    drawn = [curve.arm for curve in panels.drawn_in_page(picture).curves]
    assert len(drawn) == panels.MAX_ARMS_DRAWN
    assert set(shown) <= set(drawn)


def test_a_long_run_is_thinned_but_keeps_its_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = made_picture(("run", made_metrics(seeds=1, epochs=50)))
    assert not panels.is_thinned(picture)
    monkeypatch.setattr(panels, "MAX_VALUES", 200)
    assert panels.is_thinned(picture)
    line = panels.panels_of(picture)[0].lines[0]
    assert len(line.epochs) < 20
    assert line.epochs[-1] == 50


@pytest.mark.slow
def test_a_page_of_many_arms_stays_small() -> None:
    run = made_run(arms=tuple(f"arm{n}" for n in range(80)), seeds=5, epochs=100)
    assert len(report_page(PageSource([run])).encode()) < MOST_BYTES


def test_json_cannot_end_its_script() -> None:
    text = json_in_script({"name": ATTACK + "\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": ATTACK + "\u2028"}


def test_large_files_are_packed_and_larger_ones_left_to_the_folder() -> None:
    run = made_run()
    small = {one.name: one for one in facts.downloads_of(run)}
    link = small["made-metrics.csv"].link
    assert link is not None
    assert base64.b64decode(link.partition(",")[2]) == run.files["metrics.csv"]
    content = b"arm,seed\n" * 50_000
    (packed,) = facts.downloads_of(replace(run, files={"a.csv": content}))
    assert packed.name == "made-a.csv.gz"
    assert packed.link is not None
    assert gzip.decompress(base64.b64decode(packed.link.partition(",")[2])) == content
    left = list(facts.downloads_of(run, max_bytes=10))
    assert {one.link for one in left} == {None}
    assert all("too large" in one.text for one in left)


def test_the_summary_shows_published_and_the_difference() -> None:
    published = {"kd": compared(80.0, "best", MeanStd(81.5, 0.25, 3))}
    run = replace(made_run(), published=published)
    (table,) = tables.summary_tables(run)
    assert table.header[-4:] == [*PUBLISHED_COLUMNS]
    kd, kd_rank = ([cell.text for cell in row[-4:]] for row in table.rows)
    assert kd == ["best", "81.50 ± 0.25", "80.00", "+1.50"]
    assert kd_rank == [""] * 4
    assert "which is chosen on the test images and flatters both" in report_page(PageSource([run]))


def test_the_epochs_that_a_monitor_chose_have_a_table_of_their_own() -> None:
    run = made_run()
    assert len(tables.summary_tables(run)) == 1
    metrics = run.metrics.assign(val_kl=(run.metrics["epoch"] - 5).abs())
    monitored = run.manifest.model_copy(update={"monitors": {"kd": "val_kl"}})
    run = replace(run, metrics=metrics, manifest=monitored)
    _, table = tables.summary_tables(run)
    assert [row[0].text for row in table.rows] == ["kd"]
    assert table.rows[0][2].value == 5
    chosen = metrics[(metrics["arm"] == "kd") & (metrics["epoch"] == 5)]["test_acc"].mean()
    assert table.rows[0][3].value == pytest.approx(chosen)
    assert "best val_kl; no test image chose it" in report_page(PageSource([run]))


def test_the_numbers_below_a_figure_are_means_at_a_few_epochs() -> None:
    metrics = made_metrics(epochs=40)
    table = tables.curve_table({"kl": None}, "KL", made_picture(("run", metrics)).curves, 3)
    assert len(table.header) <= tables.SHOWN_EPOCHS + 2
    assert table.header[-1] == "epoch 40"
    last = metrics[(metrics["arm"] == "kd") & (metrics["epoch"] == 40)]["kl"].mean()
    assert table.rows[0][-1].value == pytest.approx(last)


def test_a_grid_has_its_figures_its_notes_and_all_finished_cells() -> None:
    keys = {ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}
    picture = made_grid(keys, published={(0.1, 1.0): 10.0}, failed=[(0.9, 4.0)])
    grid = PageGrid(picture, ["a <note>"])
    table = tables.cells_table(grid, "made")
    assert [*table.header] == [
        "alpha", "temperature", "seeds", "test accuracy (%)", *PUBLISHED_COLUMNS,
    ]  # fmt: skip
    first, second, *_, last = [[cell.text for cell in row] for row in table.rows]
    assert first == ["0.1", "1", "2", "11.50 ± 0.71", "last", "11.50 ± 0.71", "10.00", "+1.50"]
    assert second == ["0.1", "4", "2", "14.50 ± 0.71", "", "", "", ""]
    assert (len(table.rows), last[:2]) == (5, ["0.9", "1"])
    page = report_page(PageSource([replace(made_run(), grid=grid)]))
    assert [f'id="live-grid-0-{number}"' in page for number in range(4)] == [True] * 3 + [False]
    for name in ("heatmap", "marginals"):
        assert f'alt="Figure: {name} of the grid' in page
    assert "a &lt;note&gt;" in page


def test_comparisons_cross_runs_only_where_the_images_are_the_same() -> None:
    first, second = made_run("first"), made_run("second")
    captions = [one.table.caption for one in blocks_of(first, second)]
    assert [text.partition(":")[0] for text in captions] == ["first", "second", "second − first"]
    images = [{"fingerprint": "other"}]
    other = second.manifest.model_copy(update={"datasets": images})
    assert len(blocks_of(first, replace(second, manifest=other))) == 2


def test_one_seed_says_that_there_is_no_interval() -> None:
    (one,) = blocks_of(made_run(seeds=1))
    assert all("Too few seeds" in sentence for sentence in one.sentences)
    assert {row[4].text for row in one.table.rows} == {"–"}


def test_the_made_up_rows_can_be_read_back() -> None:
    header = next(csv.reader(made_run().files["metrics.csv"].decode().splitlines()))
    assert header[:3] == ["arm", "seed", "epoch"]


def answer_of(run: PageRun) -> Headline:
    return headline_of(run, compare_arms_of(run))


def test_the_answer_is_a_sentence_two_numbers_and_their_difference() -> None:
    run = made_run(seeds=5, epochs=30)
    sentence, (first, second, difference) = answer_of(run)
    last = run.metrics[run.metrics["epoch"] == 30].groupby("arm")["test_acc"].mean()
    assert sentence == "kd_rank ends with a higher test accuracy than kd."
    assert first == (f"{last['kd']:.2f} %", "test accuracy, kd", "")
    assert second.value == f"{last['kd_rank']:.2f} %"
    assert difference.value == f"{last['kd_rank'] - last['kd']:+.2f} points"
    assert re.fullmatch(r"95 % interval [0-9.]+ to [0-9.]+, 5 seeds", difference.more)
    (few,) = (answer_of(made_run(seeds=2, epochs=30)),)
    assert few.sentence == "2 seeds: too few to tell kd_rank from kd by test accuracy."


def test_the_answer_agrees_with_the_verdict_in_the_table() -> None:
    run = made_run(epochs=30)
    flat = run.metrics.assign(test_acc=50 + run.metrics["seed"] * run.metrics["arm"].str.len())
    sentence, _ = answer_of(replace(run, metrics=flat))
    verdict = blocks_of(replace(run, metrics=flat))[0].table.rows[0][6].text
    assert (verdict, sentence.partition(";")[0]) == (
        "not resolved", "3 seeds resolve no difference in test accuracy between kd_rank and kd",
    )  # fmt: skip


def test_arms_that_are_no_pairs_are_answered_by_the_highest_and_the_lowest() -> None:
    sentence, (highest, lowest) = answer_of(made_run(arms=("one", "two", "three")))
    assert re.fullmatch(r"3 arms end between [0-9.]+ % and [0-9.]+ % test accuracy\.", sentence)
    assert (highest.what, lowest.what) == (
        "highest test accuracy, three",
        "lowest test accuracy, one",
    )


def test_a_grid_is_answered_by_its_best_cell() -> None:
    picture = made_grid({ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}, references={"teacher T": 95.0})
    sentence, numbers = answer_of(replace(made_run(), grid=PageGrid(picture, [])))
    assert sentence == (
        "Of 6 finished cells the best has alpha = 0.9, temperature = 4 "
        "(last epoch, mean of 2 seeds). "
        "None is above the student without distillation (baseline: 99.00 %, one seed)."
    )
    assert [one.value for one in numbers] == ["94.50 %", "95.00 %"]


def test_cells_that_share_the_best_accuracy_are_all_named_or_counted() -> None:
    def sentence(best: int) -> str:
        keys = {ALPHA: ALPHAS, TEMPERATURE: TEMPERATURES}
        cells = [(alpha, t) for alpha in ALPHAS for t in TEMPERATURES][:best]
        picture = made_grid(keys, accuracy=lambda *cell: 100.0 * (cell in cells))
        return answer_of(replace(made_run(), grid=PageGrid(picture, []))).sentence

    assert sentence(2) == (
        "Of 6 finished cells 2 share the best test accuracy: alpha = 0.1, temperature = 1; "
        "alpha = 0.1, temperature = 4 (last epoch, mean of 2 seeds)."
    )
    assert "5 share the best test accuracy: " in sentence(5)
    assert "; and 2 more (" in sentence(5)


def test_the_answer_of_an_unfinished_run_says_at_which_epoch_it_is() -> None:
    run = replace(made_run(seeds=5), status="dead")
    assert answer_of(run).sentence == (
        "At epoch 12 of 30, kd_rank has a higher test accuracy than kd."
    )
    early = run.metrics[(run.metrics["arm"] == "kd") | (run.metrics["epoch"] < 8)]
    assert answer_of(replace(run, metrics=early)).sentence.startswith("At epochs 7 to 12 of 30, ")


def test_claims_are_rows_with_their_parts_folded_and_words_for_names() -> None:
    page = report_page(PageSource([made_run(epochs=30)]))
    table = page[page.index('<table class="verdicts">') :]
    table = table[: table.index("</table>")]
    assert '<th scope="row">Ranking ends lower\n' in table
    assert table.count("<details>") == table.count('<th scope="row">') > 3
    assert "Mean over 1 epochs" not in page
    assert "test accuracy (%)</td>" in page  # the metric of a comparison, in words
