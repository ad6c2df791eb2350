"""A recipe gives the weights that a plain loop gives with PyTorch's own parts, in float64."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from trained import CPU

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.models import Classifier, build_model
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.moving_average import MovingAverage
from rkkd_cli.train.recipe import decay_groups
from rkkd_cli.train.trained_model import TrainedModel

STEPS, EPOCHS, WARM_UP = 12, 4, 1
MAX_NORM, DECAY, EMA_DECAY = 0.3, 0.2, 0.8
RATES = {"lr": 0.05, "min_lr": 0.001, "warmup_lr": 0.002}
CLASSES = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def student() -> Classifier:
    torch.manual_seed(0)
    return build_model("digits_student", 10, 1).double().train()


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    for _ in range(STEPS):
        yield torch.randn(16, 1, 8, 8, dtype=torch.float64), torch.randint(0, 10, (16,))


def plain_loop(optimizer: str) -> tuple[nn.Module, nn.Module]:
    """Return the model and its average after the steps, without any code of rkkd."""
    model = student()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    exempt = [p for m in norms for p in m.parameters()]
    exempt += [p for n, p in model.named_parameters() if n.endswith("bias") and p.ndim == 1]
    ids = {id(p) for p in exempt}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if id(p) in ids], "weight_decay": 0.0},
    ]
    extra: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
    made = CLASSES[optimizer](groups, lr=RATES["lr"], **extra)
    rise = STEPS * WARM_UP // EPOCHS
    start = RATES["warmup_lr"] / RATES["lr"]
    schedule = SequentialLR(
        made,
        [
            LinearLR(made, start_factor=start, total_iters=rise),
            CosineAnnealingLR(made, STEPS - rise, eta_min=RATES["min_lr"]),
        ],
        milestones=[rise],
    )
    follow = get_ema_multi_avg_fn(EMA_DECAY)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    average.update_parameters(model)  # the first one copies
    for images, labels in batches():
        made.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
        clip_grad_norm_(model.parameters(), MAX_NORM)
        made.step()
        schedule.step()
        average.update_parameters(model)
    return model, average.module


def with_recipe(**settings: Any) -> TrainedModel:
    model = student()
    recipe: dict[str, Any] = {"epochs": EPOCHS, "schedule": "cosine", "warmup_epochs": WARM_UP}
    parsed = TrainingConfig(**recipe | RATES | settings)
    average = MovingAverage(model, EMA_DECAY, nn.Identity())
    meters = EpochMeters((), (), CPU)
    trained = TrainedModel(model, parsed, 0, meters, moving_average=average)
    for number, (images, labels) in enumerate(batches()):
        trained.set_rate(EPOCHS * number / STEPS)
        trained.backward_and_step(nn.functional.cross_entropy(model(images), labels))
    return trained


def close(one: nn.Module, other: nn.Module, rtol: float = 1e-9) -> None:
    state = other.state_dict()
    for name, value in one.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, state[name], rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("optimizer", CLASSES)
def test_the_weights_and_their_average_are_those_of_torchs_own_parts(optimizer: str) -> None:
    model, average = plain_loop(optimizer)
    given = {"optimizer": optimizer, "weight_decay": DECAY}
    trained = with_recipe(**given, clip_grad_norm=MAX_NORM, norm_bias_decay=False)
    assert trained.moving_average is not None
    close(trained.model, model)
    close(trained.moving_average.model, average)
    for left_out in ({"clip_grad_norm": None}, {"norm_bias_decay": True}):
        settings = {"clip_grad_norm": MAX_NORM, "norm_bias_decay": False} | left_out
        with pytest.raises(AssertionError):
            close(with_recipe(**given, **settings).model, model)


def test_a_gradient_below_the_norm_stays_as_it_is() -> None:
    alone, clipped = with_recipe(), with_recipe(clip_grad_norm=1e6)
    close(clipped.model, alone.model, rtol=0)


def test_a_copy_shares_nothing_but_what_does_not_change() -> None:
    model, teacher = student(), student()
    model.__dict__["reads"] = (teacher,)
    average = MovingAverage(model, 0.5, teacher)
    assert average.model.__dict__["reads"][0] is teacher
    before = copy.deepcopy(average.model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[n], v) for n, v in average.model.state_dict().items())
    average.update()
    for name, parameter in average.model.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.5)
        assert not parameter.requires_grad


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_vision_transformers_groups_are_those_of_timm(wrapped: bool) -> None:
    pytest.importorskip("timm")
    from timm.optim._param_groups import param_groups_weight_decay

    model = build_model("timm:deit_tiny_patch16_224", 10, 3, (32, 32), {"depth": 2})
    library: Any = model.library
    theirs = param_groups_weight_decay(
        library, 0.05, no_weight_decay_list=library.no_weight_decay()
    )
    part = nn.ModuleDict({"student": model, "method": nn.Linear(2, 2)}) if wrapped else model
    decayed, exempt = decay_groups(part)
    own = set(map(id, model.parameters()))
    assert exempt["weight_decay"] == 0.0
    assert "weight_decay" not in decayed
    for ours, its in ((exempt, theirs[0]), (decayed, theirs[1])):
        assert {id(p) for p in ours["params"]} & own == {id(p) for p in its["params"]}
    assert {id(p) for p in (model.pos_embed, model.cls_token)} <= {id(p) for p in exempt["params"]}
    assert len(decayed["params"] + exempt["params"]) == len(list(part.parameters()))


def test_no_group_is_empty() -> None:
    (group,) = decay_groups(nn.BatchNorm1d(3))
    assert group["weight_decay"] == 0.0
    (group,) = decay_groups(nn.Linear(3, 2, bias=False))
    assert "weight_decay" not in group
