"""``compare`` and ``findings`` on the committed samples, and on what is wrong with a run."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Ended, Program, refused, succeeded

from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.records.metrics import metrics_sha256
from rkkd_cli.records.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "results"
CLAIMS = (
    "consistent direction",
    "ranking optimised faster and further",
    "helps KL",
    "better accuracy at all stages",
    "gradient balance",
)
RUNS = (
    "digits-sample",
    "cifar100-whole-five-seeds",
    "alpha-temperature-digits-sample",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the samples, and the digits once more with findings of its own."""
    place = tmp_path_factory.mktemp("samples")
    for name in RUNS:
        shutil.copytree(SAMPLES / name, place / "results" / name)
    again = place / "results" / "again"
    shutil.copytree(SAMPLES / "digits-sample", again)
    (again / "experiment.toml").write_text(to_toml(load_experiment("rank_grad")), encoding="utf-8")
    return place


def kept(run: Path, wanted: Callable[[dict[str, str]], bool]) -> None:
    """Leave only these rows in a run's metrics.csv, as if it had written no others."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, header = [row for row in reader if wanted(row)], list(reader.fieldnames or [])
    with (run / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    directory = RunDirectory(run)
    sha256 = metrics_sha256(directory.metrics)
    manifest = directory.read_manifest().model_copy(update={"metrics_sha256": sha256})
    directory.write_manifest(manifest)


def said(answer: Ended) -> str:
    assert succeeded(answer).stderr == ""
    return answer.stdout


def test_compare_prints_a_row_a_metric_and_a_sentence_on_accuracy(
    folder: Path, warm_rkkd: Program
) -> None:
    text = said(warm_rkkd("compare", "digits-sample", cwd=folder))
    title, header, *lines = text.splitlines()
    assert title == "kd_rank − kd, last epoch"
    assert header.split()[:4] == ["metric", "n", "kd", "kd_rank"]
    metrics = ["test_acc", "test_kl", "test_rank", "test_kendall_tau"]
    assert [line.split()[0] for line in lines[:4]] == metrics
    assert "test_acc, kd_rank − kd: +2.33 (95 % interval -6.14 to 10.8, paired t, 3 seeds)" in text
    assert text.count("Not resolved: the interval contains 0; about ") == 1
    assert text.count("kd_rank − kd: ") == 1  # a sentence on the main metric only
    run = "cifar100-whole-five-seeds"
    resolved = said(warm_rkkd("compare", run, "--metric", "rank", cwd=folder))
    assert "kd_rank is lower, which is better (p = 0.001)" in resolved
    assert "test_rank" not in resolved


def test_compare_takes_arms_and_metrics(folder: Path, warm_rkkd: Program) -> None:
    arms = ("compare", "cifar100-whole-five-seeds", "kd_rank", "kd")
    metrics = ("--metric", "kl", "--metric", "rank")
    (kl, rank) = json.loads(said(warm_rkkd(*arms, *metrics, "--json", cwd=folder)))["comparisons"]
    assert (kl["metric"], rank["metric"]) == ("kl", "rank")
    assert (kl["one"], kl["other"], kl["n"], kl["paired"]) == ("kd_rank", "kd", 5, True)
    assert kl["permutation_p"] >= kl["smallest_permutation_p"] == 0.0625
    assert (kl["family"], rank["p_holm"]) == (2, 2 * rank["p"])
    assert kl["difference"] == pytest.approx(kl["mean_other"] - kl["mean_one"])
    assert kl["t_low"] < 0 < kl["t_high"]
    assert kl["verdict"] == "not resolved"


def test_compare_holds_all_other_arms_against_one(folder: Path, warm_rkkd: Program) -> None:
    grid = "alpha-temperature-digits-sample"
    answer = warm_rkkd("compare", grid, "baseline", "--format", "csv", cwd=folder)
    rows = list(csv.DictReader(said(answer).splitlines()))
    assert len(rows) == 45 * 4
    assert {row["one"] for row in rows} == {"baseline"}
    verdicts = {(row["metric"] == "test_kl", row["verdict"]) for row in rows}
    assert verdicts == {(True, "not judged"), (False, "too few seeds")}  # KL at other temperatures
    assert {row["t_low"] for row in rows} == {""}
    refused(warm_rkkd("compare", grid, cwd=folder), "1,035 pairs")


def test_compare_of_two_runs_on_the_same_images_is_paired(folder: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("compare", "digits-sample", "again", "--json", cwd=folder)
    found = json.loads(said(answer))["comparisons"]
    assert {(one["one"], one["other"]) for one in found} == {
        (f"digits-sample: {arm}", f"again: {arm}") for arm in ("kd", "kd_rank")
    }
    for one in found:
        assert one["paired"]
        assert one["difference"] == 0
        assert "the same in every seed" in one["sentence"]


def test_compare_of_two_runs_on_other_images_is_unpaired(folder: Path, warm_rkkd: Program) -> None:
    runs = ("compare", "digits-sample", "cifar100-whole-five-seeds", "--metric", "test_acc")
    text = said(warm_rkkd(*runs, cwd=folder))
    assert text.count("not paired, since the runs have other images") == 2
    assert "Welch" in text


@pytest.mark.parametrize(
    ("form", "start"), [("md", "kd_rank − kd"), ("latex", "% kd_rank"), ("csv", "metric,one,")]
)
def test_compare_writes_other_formats(
    form: str, start: str, folder: Path, warm_rkkd: Program
) -> None:
    text = said(warm_rkkd("compare", "digits-sample", "--format", form, cwd=folder))
    assert text.startswith(start)
    assert "<" not in text.replace("$<$", "")


def test_compare_of_the_best_epochs_says_that_it_flatters(folder: Path, warm_rkkd: Program) -> None:
    text = said(warm_rkkd("compare", "digits-sample", "--select", "best", cwd=folder))
    assert text.count("best epoch on the test images, which flatters") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "digits-sampel"), "did you mean 'digits-sample'"),
        (("compare", "digits-sample", "kd_rnk"), "did you mean 'kd_rank'"),
        (("compare", "digits-sample", "kd", "kd_rnk"), "unknown arm 'kd_rnk'"),
        (("compare", "digits-sample", "digits-sample"), "compared with itself"),
        (("compare", "digits-sample", "--metric", "test_ac"), "did you mean 'test_acc'"),
        (("compare", "digits-sample", "--metric", "tckd"), "unknown metric 'tckd'"),
        (("compare", "digits-sample", "--select", "val"), "--val-share"),
        (("compare", "digits-sample", "--select", "first"), "unknown selection 'first'"),
        (("compare", "digits-sample", "--format", "html"), "unknown format 'html'"),
        (("compare", "digits-sample", "alpha-temperature-digits-sample"), "of the same name"),
        (("findings", "digits-sampel"), "did you mean 'digits-sample'"),
        (("findings", "digits-sample", "kd_rnk"), "unknown arm 'kd_rnk'"),
        (("findings", "digits-sample", "--format", "latex"), "unknown format 'latex'"),
    ],
)
def test_what_is_not_there_is_named(
    words: tuple[str, ...], message: str, folder: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*words, cwd=folder), message)


def test_findings_prints_every_claim_with_its_numbers(folder: Path, warm_rkkd: Program) -> None:
    text = said(warm_rkkd("findings", "cifar100-whole-five-seeds", cwd=folder))
    heads = [line.partition(": ") for line in text.splitlines() if line.startswith(CLAIMS)]
    assert [name for name, _, _ in heads] == list(CLAIMS)
    words = {verdict.partition(" (p ")[0] for _, _, verdict in heads}
    assert words == {"SUPPORTED", "NOT RESOLVED", "CONTRADICTED"}
    parts = [line for line in text.splitlines() if line.startswith("  - ")]
    assert len(parts) >= 13
    assert all("95 % interval" in part and "n = 5" in part for part in parts)
    assert not any(" to 1.0" in part for part in parts if "ρ" in part)
    kept = (SAMPLES / "cifar100-whole-five-seeds" / "findings.md").read_text(encoding="utf-8")
    run = ("findings", "cifar100-whole-five-seeds", "--format", "md")
    assert said(warm_rkkd(*run, cwd=folder)) == kept


def test_the_page_shows_what_the_program_says(folder: Path, warm_rkkd: Program) -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    claims, _, _ = said(warm_rkkd("findings", "cifar100-whole-five-seeds", cwd=folder)).rpartition(
        "\n\n"
    )
    assert f"$ rkkd findings cifar100-whole-five-seeds\n{claims}\n```\n" in page
    words = ("compare", "digits-sample", "--metric", "test_acc", "--metric", "test_rank")
    table, *sentences, _ = said(warm_rkkd(*words, cwd=folder)).split("\n\n")
    assert f"$ rkkd {' '.join(words)}\n{table}\n```\n" in page
    for sentence in sentences:
        assert f"> {sentence.strip()}\n" in page


def test_findings_holds_the_presets_own_against_the_run(folder: Path, warm_rkkd: Program) -> None:
    found = json.loads(said(warm_rkkd("findings", "again", "--json", cwd=folder)))["findings"]
    assert [one["name"] for one in found] == [*CLAIMS, "ranking_ends_lower"]
    own = found[-1]
    assert own["claim"] == load_experiment("rank_grad").findings["ranking_ends_lower"].claim
    assert own["verdict"] == "not resolved"
    assert own["parts"][0]["what"] == "kd_rank is lower than kd"


def test_findings_in_markdown_has_a_table_a_claim(folder: Path, warm_rkkd: Program) -> None:
    text = said(warm_rkkd("findings", "digits-sample", "--format", "md", cwd=folder))
    assert text.count("### ") == len(CLAIMS) + 1  # and the preset's own
    assert text.count("| part | is so | numbers |") == len(CLAIMS)
    assert "Note: the run has no values of grad\\_low\\_share\\_teacher." in text
    assert "kd\\_rank" in text


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the digits sample that may be harmed."""
    return Path(shutil.copytree(folder / "results" / "again", tmp_path / "results" / "again"))


def test_one_seed_is_told_by_both(copy: Path, warm_rkkd: Program) -> None:
    kept(copy, lambda row: row["seed"] == "1")
    place = copy.parents[1]
    text = said(warm_rkkd("compare", "again", cwd=place))
    assert text.startswith("Not finished: 1 of 3 seeds")
    assert text.count("too few seeds") == 4
    assert "Too few seeds: 1 seed, and a verdict takes 3; 2 seeds left out" in text
    text = said(warm_rkkd("findings", "again", cwd=place))
    assert text.count("in one seed, no interval") > 10
    assert text.count("1 seed, and a verdict takes 3") == len([*CLAIMS, "its own"])
    assert text.count("TOO FEW SEEDS") == len(CLAIMS)
    assert text.count("NOT JUDGED") == 1  # the sample is older than a column of the last claim
    assert "SUPPORTED" not in text


def test_one_arm_alone_has_nothing_to_be_compared_with(copy: Path, warm_rkkd: Program) -> None:
    kept(copy, lambda row: row["arm"] == "kd")
    place = copy.parents[1]
    refused(warm_rkkd("compare", "again", cwd=place), "nothing to compare")
    text = said(warm_rkkd("findings", "again", cwd=place))
    assert "no seed has rows of kd and kd_rank at the same epochs" in text
    assert "consistent direction: SUPPORTED" in text


def test_arms_without_a_common_seed_are_told(copy: Path, warm_rkkd: Program) -> None:
    kept(copy, lambda row: (row["arm"] == "kd") == (row["seed"] == "0"))
    place = copy.parents[1]
    text = said(warm_rkkd("compare", "again", "--metric", "test_acc", cwd=place))
    assert "not paired, since they have no seed in common" in text
    assert "no seed has rows of" in said(warm_rkkd("findings", "again", cwd=place))


@pytest.mark.parametrize("command", ["compare", "findings"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "ends in the middle of a row"),
        (lambda path: path.write_bytes(path.read_bytes() + b"kd\n"), "line 182"),
        (lambda path: path.write_text("a,b\n"), "lacks the column"),
        (lambda path: path.unlink(), "is missing"),
    ],
    ids=["cut", "short row", "not ours", "gone"],
)
def test_a_damaged_file_is_one_sentence(
    command: str, harm: Callable[[Path], object], message: str, copy: Path, warm_rkkd: Program
) -> None:
    harm(copy / "metrics.csv")
    refused(warm_rkkd(command, "again", cwd=copy.parents[1]), message)


@pytest.mark.parametrize("command", ["compare", "findings"])
def test_a_run_without_rows_is_told(command: str, copy: Path, warm_rkkd: Program) -> None:
    kept(copy, lambda row: row["arm"] == "none")
    refused(warm_rkkd(command, "again", cwd=copy.parents[1]), "no finished epoch")


def test_seeds_that_are_missing_are_told_first(copy: Path, warm_rkkd: Program) -> None:
    kept(copy, lambda row: row["seed"] == "0" or (row["seed"] == "1" and int(row["epoch"]) < 9))
    directory = RunDirectory(copy)
    manifest = directory.read_manifest().model_copy(update={"status": "interrupted"})
    directory.write_manifest(manifest)
    place, banner = copy.parent.parent, "Not finished: 1 of 3 seeds, interrupted. Missing: seeds "
    banner += "1 (at epoch 8 of 30), 2."
    for command in ("compare", "findings"):
        assert said(warm_rkkd(command, copy.name, cwd=place)).startswith(f"{banner}\n\n")
        told = json.loads(said(warm_rkkd(command, copy.name, "--json", cwd=place)))["unfinished"]
        assert told in (banner, [banner])
    assert said(warm_rkkd("show", copy.name, cwd=place)).splitlines()[1] == banner
    csv_answer = succeeded(warm_rkkd("compare", copy.name, "--format", "csv", cwd=place))
    assert csv_answer.stderr.strip() == banner
