"""The example notebook, executed in a kernel of its own."""

from pathlib import Path

import pytest

SMALL = '{"training.epochs": 2, "teacher.training.epochs": 2, "seeds": [0, 1, 2]}'
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "ablation.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    as_written = '{"training.epochs": 10, "seeds": [0, 1, 2, 3]}'
    assert as_written in cells[0].source
    cells[0].source = cells[0].source.replace(as_written, SMALL)
    for cell in cells:
        cell.outputs = []
    client = nbclient.NotebookClient(
        notebook, timeout=300, coalesce_streams=True, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()  # raises for a cell that fails
    shown = [
        "".join(out.get("text", "") + out.get("data", {}).get("text/plain", "") for out in outputs)
        for outputs in (cell.outputs for cell in cells)
    ]
    assert shown[0] == "['kd', 'kd_rank']"
    assert "100 %" in shown[1]
    assert "('finished', 12)" in shown[1]
    assert all(text in shown[4] for text in ("test_acc", "verdict"))
    assert "In kd the ranking loss falls as KL falls" in shown[5]
    assert [*cells[6].outputs[0].data] == ["text/plain", "image/png"]
    assert shown[7].endswith("[0, 1, 2, 3, 4, 5, 6, 7])")
