"""What arms find for some test images: the neighbours, and the pixels that are drawn of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_form import wave
from in_memory import pixels_of
from trained import checkpoints_of, events_of, experiment_with, going_on

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.targets import Targets
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.tasks.embedding import Embeddings
from rkkd_cli.tasks.task import HeldOutRows
from rkkd_cli.train.events import Event, Retrieved
from rkkd_cli.train.sheets import MAX_SIDE, shrunk


def embedding_experiment(*overrides: str) -> Experiment:
    words = ("task=embedding", "student.embedding=8", "teacher.embedding=16", *overrides)
    arms = {name: {"method": {"name": name}} for name in ("triplet", "rkd")}
    return experiment_with(*words, arms=arms)


@pytest.fixture(scope="module")
def events(cache: Path) -> Sequence[Event]:
    return events_of(embedding_experiment(), cache)


def found_by(events: Sequence[Event]) -> dict[str, tuple[Any, ...]]:
    found = [event for event in events if isinstance(event, Retrieved)]
    assert len({event.arm for event in found}) == len(found)
    return {e.arm: (e.seed, e.epoch, e.images.tobytes(), e.classes.tolist()) for e in found}


@pytest.mark.parametrize("images", [5, 40])
def test_neighbours_are_those_of_the_loop(images: int) -> None:
    embedding, labels, whole = wave([images, 3], 0.4), torch.arange(images) % 4, Embeddings()
    for part in (slice(0, 3), slice(3, None)):
        whole.add(HeldOutRows(embedding[part], Targets(labels[part])))
    indices, classes = whole.neighbours()
    assert torch.equal(classes, labels[indices])
    rows = embedding.float().tolist()
    for query, *found in indices.tolist():
        others = [i for i in range(images) if i != query]
        others.sort(key=lambda i, q=query: math.dist(rows[q], rows[i]))  # type: ignore[misc]
        assert found == others[:8]


def test_the_queries_are_the_first_images_of_the_first_six_classes_with_two() -> None:
    labels, whole = torch.tensor([9, 3, 3, 9, 7, 0, 0, 5, 5, 1, 1, 8, 8, 2, 2]), Embeddings()
    whole.add(HeldOutRows(wave([len(labels), 2]), Targets(labels)))
    assert whole.neighbours().indices[:, 0].tolist() == [5, 9, 13, 1, 7, 11]


def test_each_arm_shows_what_it_finds_after_its_last_epoch(events: Sequence[Event]) -> None:
    found = found_by(events)
    assert {arm: facts[:2] for arm, facts in found.items()} == {"triplet": (0, 2), "rkd": (0, 2)}
    queries = [[row[0] for row in classes] for *_, classes in found.values()]
    assert queries == [list("012345")] * 2
    assert found["triplet"][2] != found["rkd"][2]


def test_a_stopped_run_finds_the_same(events: Sequence[Event], cache: Path) -> None:
    _, checkpoint = checkpoints_of(events)[0]
    rest = events_of(embedding_experiment(), cache, going_on(checkpoint))
    assert found_by(rest) == found_by(events)


def test_the_pixels_are_those_of_images_of_these_classes(events: Sequence[Event]) -> None:
    test = load_dataset(dataset_request(embedding_experiment()), Path()).test
    labels = map(str, test.labels.tolist())
    class_of = dict(zip((image.tobytes() for image in pixels_of(test)), labels, strict=True))
    for event in (event for event in events if isinstance(event, Retrieved)):
        assert event.images.shape == (6, 9, 1, 8, 8)
        for row, classes in zip(event.images, event.classes, strict=True):
            assert [class_of[image.tobytes()] for image in row] == [*classes]


def test_a_classifier_finds_nothing(cache: Path) -> None:
    assert found_by(events_of(experiment_with("training.epochs=1"), cache)) == {}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 8), (8, 8)), ((96, 64), (96, 64)), ((192, 96), (96, 48)), ((3, 500), (1, 96))],
)
def test_large_images_are_shrunk_and_keep_their_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = torch.arange(2 * 3 * size[0] * size[1]).view(2, 3, *size).remainder(256).byte()
    small = shrunk(pixels)
    assert (tuple(small.shape[2:]), small.dtype) == (expected, torch.uint8)
    assert max(expected) <= MAX_SIDE
    means = [images.float().mean().item() for images in (small, pixels)]
    assert means[0] == pytest.approx(means[1], abs=2)
    assert torch.equal(small, pixels) == (size == expected)
