"""What the teacher said is read back as it was said, or said again; nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from trained import CPU, events_of, experiment_with, notes_of, rows_of

from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.errors import RunError
from rkkd_cli.losses import TopLogits
from rkkd_cli.models import Classifier, Features
from rkkd_cli.sweep.logit_cache import cached_streams, evict
from rkkd_cli.train.events import Event
from rkkd_cli.train.teacher.logit_cache import LogitCache
from rkkd_cli.train.teacher.logit_rows import row_format
from rkkd_cli.train.teacher.model import Teacher

IMAGES, CLASSES = 10, 3


class Scaled(Classifier):
    """Returns the first pixels of an image as its logits, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward_features(self, x: Tensor) -> Features:
        logits = x.flatten(1)[:, :CLASSES] * self.factor
        return Features((), logits, logits)


def teacher(factor: float = 1.0) -> Teacher:
    model = Scaled(factor).requires_grad_(False)
    return Teacher(model, CPU, "fp32", CLASSES, taken_as_is(1, (2, 2)))


def batches(values: Tensor | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 1, 2, 2, generator=generator) if values is None else values
    return list(torch.split(images, 4))


def said(
    outputs: LogitCache, who: Teacher, first: int = 0, some: list[Tensor] | None = None
) -> list[Tensor]:
    """Return the logits of the batches of epoch 1 from the image ``first`` on."""
    with outputs.open_epoch(1, first, who) as seer:
        return [
            seer.outputs(one, features=False).logits for one in (some or batches())[first // 4 :]
        ]


def store(folder: Path, kind: str = "exact") -> LogitCache:
    return LogitCache(folder / "some" / "stream", kind, IMAGES, CLASSES)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_was_said_is_read_and_nobody_is_asked_again(tmp_path: Path) -> None:
    outputs = store(tmp_path)
    alone = [teacher().outputs(one, features=False).logits for one in batches()]
    assert same(said(outputs, teacher()), alone)
    assert outputs.cached_epochs() == {1}
    stranger = teacher(factor=7.0)  # whose own answers would be others
    assert same(said(outputs, stranger), alone)
    assert same(said(outputs, stranger, first=8), alone[2:])
    assert outputs.problems == []


def test_an_epoch_that_is_not_seen_whole_is_not_kept(tmp_path: Path) -> None:
    outputs = store(tmp_path)
    said(outputs, teacher(), first=4)
    with outputs.open_epoch(1, 0, teacher()) as seer:
        seer.outputs(batches()[0], features=False)
    with pytest.raises(AttributeError):
        said(outputs, teacher(), some=[batches()[0], None])  # type: ignore[list-item]
    assert list(outputs.folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["a byte", "cut short", "other shape", "no array"])
def test_a_damaged_file_is_noticed_and_made_again(damage: str, tmp_path: Path) -> None:
    outputs = store(tmp_path)
    alone = said(outputs, teacher())
    (path,) = outputs.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "other shape":  # under its right hash, as another program may have written it
        path.unlink()
        said(LogitCache(outputs.folder, "exact", 4, CLASSES), teacher(), some=batches()[:1])
    else:
        content[-1] ^= 1
        whole = {"a byte": content, "cut short": content[:-8], "no array": bytearray()}
        path.write_bytes(whole[damage])
    assert same(said(outputs, teacher()), alone)
    (problem,) = outputs.problems
    assert "is damaged" in problem
    assert same(said(outputs, teacher(factor=7.0)), alone)


def test_where_nothing_can_be_written_the_teacher_goes_on(tmp_path: Path) -> None:
    (tmp_path / "some").write_text("a file where a folder should be")
    outputs = store(tmp_path)
    assert same(said(outputs, teacher()), said(store(tmp_path / "elsewhere"), teacher()))
    said(outputs, teacher())  # and says so once
    (problem,) = outputs.problems
    assert problem.startswith("the teacher's outputs cannot be kept (")
    assert str(tmp_path / "some") in problem


@given(
    st.lists(
        st.floats(-65000, 65000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-4),
        min_size=CLASSES,
        max_size=CLASSES,
    )
)
@settings(max_examples=50)
def test_fp16_rounds_by_half_a_unit_and_in_the_same_way_each_time(
    tmp_path_factory: pytest.TempPathFactory, logits: list[float]
) -> None:
    image = torch.zeros(IMAGES, 1, 2, 2)
    image.view(IMAGES, 4)[:, :CLASSES] = torch.tensor(logits)
    outputs = store(tmp_path_factory.mktemp("outputs"), "fp16")
    first = said(outputs, teacher(), some=batches(image))
    again = said(outputs, teacher(), some=batches(image))
    assert same(first, again)
    exact = np.array(logits)
    assert (np.abs(first[0][0].numpy() - exact) <= 2.0**-11 * np.abs(exact)).all()
    (path,) = outputs.folder.iterdir()
    assert path.stat().st_size == pytest.approx(outputs.bytes_per_epoch, abs=200)
    assert outputs.bytes_per_epoch == IMAGES * CLASSES * 2


def test_logits_that_fp16_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cache_teacher=exact"):
        said(store(tmp_path, "fp16"), teacher(factor=1e6))
    assert list(store(tmp_path, "fp16").folder.iterdir()) == []


def test_top_logits_are_read_as_they_were_kept_at_each_temperature(tmp_path: Path) -> None:
    outputs = LogitCache(tmp_path, "top:2", IMAGES, CLASSES, temperatures=(1.0, 4.0))

    def kept(who: Teacher, first: int = 0) -> list[TopLogits]:
        with outputs.open_epoch(1, first, who) as seer:
            found = [seer.outputs(one, features=False) for one in batches()[first // 4 :]]
        return [one for one in found if isinstance(one, TopLogits)]

    written = kept(teacher())
    assert outputs.bytes_per_epoch == IMAGES * (2 * (2 + 4) + 2 * 4)
    for first in (0, 4):
        for one, other in zip(kept(teacher(factor=7.0), first), written[first // 4 :], strict=True):
            assert torch.equal(one.indices, other.indices)
            assert torch.equal(one.logits, other.logits)
            assert one.rest.keys() == other.rest.keys() == {1.0, 4.0}
            assert all(torch.equal(one.rest[t], other.rest[t]) for t in one.rest)
    whole = teacher().outputs(batches()[0], features=False).logits
    assert torch.equal(written[0].logits, whole.topk(2, dim=1).values)


@pytest.mark.parametrize(("classes", "size"), [(2**16, 2), (2**16 + 1, 4)])
def test_the_number_of_any_class_fits_into_a_row(classes: int, size: int) -> None:
    rows = row_format("top:2", classes, (4.0,))
    assert rows.dtype.itemsize == 2 * (size + 4) + 4
    logits = torch.zeros(1, classes)
    logits[0, -1], logits[0, 5] = 2.0, 1.0
    read = rows.unpack(rows.pack(rows.keep(logits)), CPU)
    assert isinstance(read, TopLogits)
    assert read.indices.tolist() == [[classes - 1, 5]]


@pytest.fixture
def empty(cache: Path) -> Path:
    """The cache of all tests, with teachers but without outputs."""
    evict(cache, "all")
    return cache


def run(cache: Path, *overrides: str) -> list[Event]:
    return events_of(experiment_with(*overrides), cache)


def told_of_outputs(events: list[Event]) -> list[str]:
    return [text for text in notes_of(events) if "outputs" in text]


def test_a_run_has_the_same_rows_without_the_files_writing_them_and_reading_them(
    empty: Path,
) -> None:
    without = run(empty)
    assert told_of_outputs(without) == []
    writing, reading = run(empty, "cache_teacher=exact"), run(empty, "cache_teacher=exact")
    assert rows_of(writing) == rows_of(reading) == rows_of(without)
    assert "0 of 2 epochs are kept" in told_of_outputs(writing)[0]
    assert "2 of 2 epochs are kept" in told_of_outputs(reading)[0]
    longer = run(empty, "cache_teacher=exact", "training.epochs=3")
    assert "2 of 3 epochs are kept" in told_of_outputs(longer)[0]
    (kept,) = cached_streams(empty)
    assert len(kept.files) == 3
    assert kept.facts["model"] == "digits_teacher"


def test_the_logits_of_mixed_images_are_kept_as_well(empty: Path) -> None:
    mixed = "dataset.mixup_alpha=0.8", "dataset.cutmix_alpha=1.0", "dataset.auto_augment=rand"
    without = run(empty, *mixed)
    for _ in range(2):
        assert rows_of(run(empty, "cache_teacher=exact", *mixed)) == rows_of(without)


def test_fp16_has_the_same_rows_the_second_time_and_nearly_those_of_exact(empty: Path) -> None:
    first, second = run(empty, "cache_teacher=fp16"), run(empty, "cache_teacher=fp16")
    assert rows_of(first) == rows_of(second)
    for rounded, exact in zip(rows_of(first), rows_of(run(empty)), strict=True):
        assert rounded["kl"] == pytest.approx(exact["kl"], rel=1e-2)


@pytest.mark.parametrize(
    "other",
    [
        "seeds=[1]",
        "training.batch_size=32",
        "teacher.training.lr=0.011",
        "dataset.cutmix_alpha=1.0",
    ],
)
def test_another_stream_or_teacher_has_files_of_its_own(other: str, empty: Path) -> None:
    run(empty, "cache_teacher=exact")
    run(empty, "cache_teacher=exact", other)
    assert len(cached_streams(empty)) == 2
    (first, second) = (one.key for one in cached_streams(empty))
    assert evict(empty, first) > 0
    assert [one.key for one in cached_streams(empty)] == [second]
    evict(empty, "all")
    assert cached_streams(empty) == []
