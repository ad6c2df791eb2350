"""The benchmark of augmentation: both contestants do what they are timed for."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Program

from rkkd_cli.data.stream import Batch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    import augmentation

    return augmentation


def test_both_give_batches_of_the_same_kind(benchmark: Any) -> None:
    for recipe, settings in benchmark.RECIPES.items():
        ours = benchmark.ours(recipe, 12, 16, 1, "cpu")
        theirs = benchmark.theirs(recipe, 12, 16, 1)
        torch.manual_seed(0)  # of the DataLoader; a stream has its own seed
        batches, others = [ours() for _ in range(20)], [theirs() for _ in range(20)]
        assert all(isinstance(batch, Batch) for batch in batches)
        means, deviations = [], []
        for images in ([b.images for b in batches], [images for images, _ in others]):
            joined = torch.cat(images)
            assert joined.shape == (320, 3, 12, 12)
            means.append(joined.mean().item())
            deviations.append(joined.std().item())
        assert means[0] == pytest.approx(means[1], abs=0.2)
        assert deviations[0] == pytest.approx(deviations[1], rel=0.2)
        is_mixed = settings.mixing is not None
        assert all((batch.mixed is not None) == is_mixed for batch in batches)
        assert all((labels.ndim == 2) == is_mixed for _, labels in others)


def test_it_prints_medians_and_ranges(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_once(makers: Any, rounds: int, steps: int) -> dict[str, list[float]]:
        return {name: [0.002 * (1 + len(name))] * rounds for name in makers}

    monkeypatch.setattr(benchmark, "take_turns", at_once)
    monkeypatch.setattr(sys, "argv", ["augmentation", "--size", "8", "--rounds", "2"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert printed.startswith("batches of 128 images of 8×8, 2 rounds of 10")
    assert printed.count("ratio") == 3


def test_it_is_listed(warm_rkkd: Program, tmp_path: Path) -> None:
    assert "What augmentation costs a batch" in warm_rkkd("bench", "--list", cwd=tmp_path).stdout
