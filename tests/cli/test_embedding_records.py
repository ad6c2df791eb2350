"""Commands on a run of the task embedding, from its files: they read and speak of MAP@R."""

import json
from pathlib import Path

import pytest
from report_runs import made_experiment, made_metrics, made_run
from running import EMBEDDING_KEYS, Program, refused, succeeded

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import to_toml
from rkkd_cli.config.tasks import EMBEDDING
from rkkd_cli.records.manifest import manifest_text

EPOCHS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose epochs were chosen by validation images."""
    place = tmp_path_factory.mktemp("embedding")
    metrics = made_metrics(task=EMBEDDING, epochs=EPOCHS)
    for column in (*EMBEDDING.split_columns("val"), EMBEDDING.ema_column("test")):
        metrics[column] = metrics["epoch"] % 12 + metrics["seed"]
    metrics[EMBEDDING.ema_column("val")] = ""
    split = Override("dataset.val_share", 0.1), Override("training.patience", 20)
    experiment = made_experiment(EMBEDDING, *split)
    monitors = dict.fromkeys(("kd", "kd_rank"), "val_map_at_r")
    manifest = made_run("made").manifest.model_copy(update={"monitors": monitors})
    files = {
        "metrics.csv": metrics.to_csv(index=False),
        "experiment.toml": to_toml(experiment),
        "manifest.json": manifest_text(manifest),
    }
    run = place / "results" / "made"
    run.mkdir(parents=True)
    for name, text in files.items():
        (run / name).write_text(text, encoding="utf-8", newline="\n")
    return place


def test_show_has_a_column_for_each_metric(folder: Path, warm_rkkd: Program) -> None:
    text = succeeded(warm_rkkd("show", "made", cwd=folder)).stdout
    assert "test MAP@R (%)  test R-precision (%)  test Recall@1 (%)" in text
    assert "Test MAP@R with moving averages of the weights: kd 7.00 ± 1.00 %" in text
    assert "Each seed's epoch with the best val_map_at_r; no test image chose it:" in text
    assert "accuracy" not in text


def test_compare_is_about_map_at_r(folder: Path, warm_rkkd: Program) -> None:
    text = succeeded(warm_rkkd("compare", "made", cwd=folder)).stdout
    assert "test_map_at_r, kd_rank − kd: +" in text
    chosen = succeeded(warm_rkkd("compare", "made", "--select", "val", "--json", cwd=folder)).stdout
    rows = json.loads(chosen)["comparisons"]
    assert [row["metric"] for row in rows] == list(EMBEDDING.compared_columns)
    assert "epoch with the best validation MAP@R" in rows[0]["sentence"]
    refused_metric = refused(warm_rkkd("compare", "made", "--metric", "test_acc", cwd=folder))
    assert "unknown metric 'test_acc'" in refused_metric


def test_watch_and_findings_speak_of_map_at_r(folder: Path, warm_rkkd: Program) -> None:
    assert "test MAP@R (%)" in succeeded(warm_rkkd("watch", "made", cwd=folder)).stdout
    text = succeeded(warm_rkkd("findings", "made", cwd=folder)).stdout
    assert "better MAP@R at all stages" in text
    assert "accuracy" not in text


@pytest.mark.parametrize("monitor", ["val_acc", "val_map", "test_map_at_r"])
def test_a_monitor_of_another_task_is_refused_with_the_choices(
    monitor: str, folder: Path, warm_rkkd: Program
) -> None:
    words = (*EMBEDDING_KEYS, "dataset.val_share=0.1", f"training.monitor={monitor}", "--dry-run")
    said = refused(warm_rkkd("run", *words, cwd=folder))
    assert f"training.monitor = '{monitor}': " in said
    assert "val_map_at_r, val_r_precision, val_recall_at_1" in said
    assert "val_triplet, val_kl, val_rank, val_kendall_tau, val_map_at_r_ema" in said
