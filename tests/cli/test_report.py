"""``rkkd report`` and ``rkkd plot --published``: where the page goes, and what is refused."""

import re
import shutil
from pathlib import Path

import pytest
from report_runs import ATTACK, made_run
from running import Program, refused, succeeded

from rkkd_cli.config.presets import preset_names
from rkkd_cli.records.manifest import manifest_text
from rkkd_cli.records.metrics import metrics_sha256
from rkkd_cli.report.page.sources import PageRun


def write_run(folder: Path, part: PageRun) -> Path:
    """Write a made-up run as the program would have."""
    run = folder / "results" / part.name
    run.mkdir(parents=True)
    for name, content in part.files.items():
        (run / name).write_bytes(content)
    stated = {"metrics_sha256": metrics_sha256(run / "metrics.csv")}
    manifest = part.manifest.model_copy(update=stated)
    (run / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
    return run


def test_the_page_is_one_file_in_the_runs_folder(tmp_path: Path, warm_rkkd: Program) -> None:
    run = write_run(tmp_path, made_run())
    answer = warm_rkkd("report", "made", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.strip() == str(Path("results", "made", "report.html"))
    page = run / "report.html"
    assert page.stat().st_size < 2_000_000
    text = page.read_text(encoding="utf-8")
    addresses = re.findall(
        r"""(?:src|href|action)=["']?([^"'\s>]{1,40})""", text.split("<script")[0]
    )
    assert all(one.startswith(("data:", "#")) for one in addresses)
    for heading in ("Verdicts", "Arms", "Comparisons", "Curves", "Setting", "Environment"):
        assert f">{heading}</h2>" in text
    assert {path.name for path in run.iterdir()} >= {"report.html", "metrics.csv"}
    assert not [path for path in run.iterdir() if path.name.startswith(".report")]


def test_several_runs_stand_in_one_page(tmp_path: Path, warm_rkkd: Program) -> None:
    write_run(tmp_path, made_run("first"))
    write_run(tmp_path, made_run("second", seeds=1))
    succeeded(warm_rkkd("report", "first", "second", "--to", "new/both.html", cwd=tmp_path))
    text = (tmp_path / "new" / "both.html").read_text(encoding="utf-8")
    assert "second: kd_rank (n = 1)" in text
    assert "Setting of first" in text
    assert "1 seed: too few to tell kd_rank from kd" in text


def test_one_arm_one_seed_and_one_epoch_make_a_page(tmp_path: Path, warm_rkkd: Program) -> None:
    write_run(tmp_path, made_run(arms=("kd",), seeds=1, epochs=1))
    answer = warm_rkkd("report", "made", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_hostile_text_is_escaped_everywhere(tmp_path: Path, warm_rkkd: Program) -> None:
    run = write_run(tmp_path, made_run(text=ATTACK))
    answer = warm_rkkd("report", "made", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "{{ 7 * 7 }}" in text
    assert text.count("<script") == text.count("</script>") == 3


def test_published_values_stand_beside_the_measured_ones(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    run = write_run(tmp_path, made_run())
    published = ("made", "--published", "rank_grad_mobilenet")
    succeeded(warm_rkkd("report", *published, cwd=tmp_path))
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "published (%)" in text
    assert "Last: published and measured at the last epoch." in text
    assert "Ablation of RKKD" in text
    assert "normalisation not stated; compare shapes, not levels" in text
    succeeded(warm_rkkd("plot", *published, "--format", "svg", cwd=tmp_path))
    sheet = (run / "figures" / "sheet.svg").read_text(encoding="utf-8")
    for words in ("kd_rank, published", "normalisation not stated", "Ablation of RKKD"):
        assert words in sheet


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("report", "nothing"), "no run 'nothing'"),
        (("report", "made", "--to", "results"), "is a folder; name a file"),
        (("report", "made", "--published", "auto"), "no preset with published values"),
        (("report", "made", "--published", "no.csv"), "cannot be read as CSV"),
        (("plot", "made", "--published", "auto"), "no preset with published values"),
        (("plot", "made", "--published", "simkd_variants"), "no column 'epoch'"),
        (("plot", "made", "--published", "rank_grad"), "has no published values"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: tuple[str, ...], reason: str, tmp_path: Path, warm_rkkd: Program
) -> None:
    assert "rank_grad" in preset_names()
    run = write_run(tmp_path, made_run(arms=("kd",), seeds=1, epochs=2))
    refused(warm_rkkd(*words, cwd=tmp_path), reason)
    assert not (run / "report.html").exists()


def test_a_damaged_table_is_refused_and_the_old_page_stays(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    run = write_run(tmp_path, made_run(arms=("kd",), seeds=1, epochs=2))
    (run / "report.html").write_text("old")
    shutil.copy(run / "metrics.csv", tmp_path / "whole.csv")
    for damage in ("arm,seed\n", (tmp_path / "whole.csv").read_text()[:-9]):
        (run / "metrics.csv").write_text(damage)
        refused(warm_rkkd("report", "made", cwd=tmp_path))
        assert (run / "report.html").read_text() == "old"
