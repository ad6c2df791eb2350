"""mixup and CutMix: images and labels are torchvision's for the same share and box."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.mixing import Mix, Mixing, cut_box
from rkkd_cli.data.targets import Mixed, Targets

CLASSES = 5


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 9, 12, generator=generator)
    return images, torch.randint(0, CLASSES, (6,), generator=generator)


def soft(targets: Targets) -> Tensor:
    """The targets as probabilities, (B, C)."""
    own = F.one_hot(targets.labels, CLASSES).double()
    if targets.mixed is None:
        return own
    share = targets.mixed.share.double()
    return share * own + (1 - share) * F.one_hot(targets.mixed.other, CLASSES).double()


MIXES = [
    (v2.MixUp(num_classes=CLASSES), {"lam": 0.3}, Mix(0.3)),
    (v2.MixUp(num_classes=CLASSES), {"lam": 0.81}, Mix(0.81)),
    (v2.CutMix(num_classes=CLASSES), {"box": (2, 1, 7, 5), "lam_adjusted": 1 - 20 / 108},
     Mix(1 - 20 / 108, (1, 5, 2, 7))),
    (v2.CutMix(num_classes=CLASSES), {"box": (0, 0, 12, 8), "lam_adjusted": 1 - 96 / 108},
     Mix(1 - 96 / 108, (0, 8, 0, 12))),
]  # fmt: skip


@pytest.mark.parametrize(("transform", "params", "mix"), MIXES)
def test_a_mixed_batch_is_torchvisions(
    transform: v2.Transform, params: dict[str, object], mix: Mix
) -> None:
    images, labels = batch()
    params = params | {"labels": labels, "batch_size": len(labels)}
    expected, probabilities = (transform.transform(one, params) for one in (images, labels))
    assert torch.equal(mix.images(images, images.roll(1, 0)), expected)
    targets = mix.targets(labels, labels.roll(1))
    assert targets.mixed is not None
    assert targets.mixed.share >= 0.5
    torch.testing.assert_close(soft(targets), probabilities.double(), rtol=0, atol=1e-7)
    larger = probabilities.argmax(dim=1)
    distinct = probabilities.max(dim=1).values > 0.5
    assert torch.equal(targets.labels[distinct], larger[distinct])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [None, 0.5, 0.77, 1.0])
def test_the_cross_entropy_is_that_of_the_mixed_probabilities(
    share: float | None, smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(8, CLASSES, generator=generator, dtype=torch.float64)
    labels, other = torch.randint(0, CLASSES, (2, 8), generator=generator).unbind()
    mixed = None if share is None else Mixed(other, torch.tensor(share, dtype=torch.float64))
    targets = Targets(labels, mixed)
    losses = []
    for row, label, second in zip(logits.tolist(), labels.tolist(), other.tolist(), strict=True):
        log_sum = np.log(np.exp(row).sum())
        wanted = np.full(CLASSES, smoothing / CLASSES)
        wanted[label] += (1 - smoothing) * (1 if share is None else share)
        wanted[second] += (1 - smoothing) * (0 if share is None else 1 - share)
        losses.append(float((wanted * (log_sum - np.array(row))).sum()))
    each = targets.cross_entropy(logits, smoothing, reduction="none")
    assert each.tolist() == pytest.approx(losses, rel=1e-12)
    assert targets.cross_entropy(logits, smoothing).item() == pytest.approx(np.mean(losses))
    twice = targets.repeat(2).cross_entropy(logits.repeat(2, 1), smoothing, reduction="none")
    assert torch.equal(twice, each.repeat(2))


@pytest.mark.parametrize("size", [(9, 12), (32, 32), (4, 4)])
def test_a_cut_box_is_torchvisions_for_the_same_draws(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, transform = np.random.default_rng(0), v2.CutMix(num_classes=CLASSES)
    for share, row, column in generator.random((200, 3)).tolist():
        places = iter([torch.tensor([int(column * size[1])]), torch.tensor([int(row * size[0])])])
        monkeypatch.setattr(transform._dist, "sample", lambda _, share=share: torch.tensor(share))
        monkeypatch.setattr(torch, "randint", lambda *_, places=places, **__: next(places))
        wanted = transform.make_params([torch.zeros(1, 3, *size)])
        monkeypatch.undo()
        single = float(torch.tensor(share))
        mix = cut_box(single, (row, column), *size)
        assert mix.box is not None
        top, bottom, left, right = mix.box
        assert (left, top, right, bottom) == wanted["box"]
        assert mix.share == wanted["lam_adjusted"]


def test_shares_are_beta_and_half_of_the_batches_are_cut() -> None:
    both = [Mixing(0.8, 1.0).draw(BatchDraws(seed, 4), 32, 32) for seed in range(2000)]
    averaged = [mix.share for mix in both if mix.box is None]
    assert len(averaged) == pytest.approx(1000, abs=130)
    assert np.mean(averaged) == pytest.approx(0.5, abs=0.05)
    assert np.var(averaged) == pytest.approx(0.25 / (2 * 0.8 + 1), rel=0.15)
    alone = [Mixing(0.0, 1.0).draw(BatchDraws(seed, 4), 32, 32) for seed in range(50)]
    assert all(mix.box is not None for mix in alone)
    assert all(Mixing(0.2, 0.0).draw(BatchDraws(seed, 4), 8, 8).box is None for seed in range(50))


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 1e9])
def test_extreme_parameters_give_shares(alpha: float) -> None:
    for seed in range(20):
        mix = Mixing(alpha, 0.0).draw(BatchDraws(seed, 4), 8, 8)
        assert 0 <= mix.share <= 1
