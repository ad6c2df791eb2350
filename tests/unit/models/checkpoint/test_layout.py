"""Files as the field's projects write them, each recognised by itself and read bit for bit."""

import argparse
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weights import same

from rkkd_cli.errors import UserError
from rkkd_cli.models import Classifier, build_model, load_checkpoint
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.models.checkpoint.recognise import recognise

NAME, CLASSES = "resnet8", 12


def network(seed: int = 1, name: str = NAME) -> Classifier:
    torch.manual_seed(seed)
    return build_model(name, CLASSES)


def optimizer_of(model: nn.Module) -> dict[str, Any]:
    """An optimiser's state after a step, its rate a numpy scalar as after `lr * 0.1 ** steps`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    model(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = np.float64(0.05) * 0.1
    return optimizer.state_dict()


def options(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(
        model=NAME, lr_decay_epochs=[150, 180], learning_rate=np.float64(0.05), **more
    )


def repdistiller(model: Classifier) -> tuple[str, Any]:
    # RepDistiller, train_teacher.py:152-159; the folder of scripts/fetch_pretrained_teachers.sh
    optimizer = optimizer_of(model)
    accuracy = torch.tensor([72.5])  # helper/util.py returns tensors
    state = {"epoch": 240, "model": model.state_dict(), "accuracy": accuracy}
    return f"{NAME}_vanilla/ckpt_epoch_240.pth", state | {"optimizer": optimizer}


def repdistiller_last(model: Classifier) -> tuple[str, Any]:
    # RepDistiller, train_teacher.py:166-172: the options as they are, a Namespace
    optimizer = optimizer_of(model)
    state = {"opt": options(), "model": model.state_dict(), "optimizer": optimizer}
    return f"{NAME}_cifar100_lr_0.05_decay_0.0005_trial_0/{NAME}_last.pth", state


def repdistiller_student(model: Classifier) -> tuple[str, Any]:
    # RepDistiller, train_student.py:111-118 and 338-343
    state = {"opt": options(model_s=NAME, model_t="resnet56"), "model": model.state_dict()}
    return f"S:{NAME}_T:resnet56_cifar100_kd_r:0.1_a:0.9_b:0.0_1/{NAME}_last.pth", state


def simkd(model: Classifier) -> tuple[str, Any]:
    # SimKD, train_student.py:396-403: the projector beside the student
    state = {"epoch": 239, "model": model.state_dict(), "best_acc": torch.tensor([77.1])}
    proj = nn.Linear(3, 4).state_dict()
    return f"S~{NAME}_T~resnet32x4_cifar100_simkd_r~0.0_a~0.0_b~1.0_0/{NAME}_best.pth", state | {
        "proj": proj
    }


def mdistiller_student(model: Classifier) -> tuple[str, Any]:
    # mdistiller, mdistiller/engine/trainer.py:133 and 149-151
    return "cifar100_baselines/kd,res56,res20/student_best", {"model": model.state_dict()}


class Distiller(nn.Module):
    """mdistiller, mdistiller/distillers/_base.py: student and teacher in one module."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, network(5, "resnet14")


def mdistiller_whole(model: Classifier) -> tuple[str, Any]:
    # mdistiller, mdistiller/engine/trainer.py:127-134: the DataParallel of the whole distiller
    distiller = nn.DataParallel(Distiller(model))
    state = {"epoch": 240, "model": distiller.state_dict(), "best_acc": np.float32(72.9)}
    return "cifar100_baselines/kd/best", state | {"optimizer": optimizer_of(model)}


def dist(model: Classifier) -> tuple[str, Any]:
    # image_classification_sota (DIST), lib/utils/misc.py:90-100
    state = {"epoch": 99, "model": model.state_dict(), "ema_model": None, "optimizer": None}
    return "experiments/dist/checkpoint-99.pth.tar", state


def dist_segmentation(model: Classifier) -> tuple[str, Any]:
    # DIST_KD, segmentation/train_kd.py:364
    return "kd_model_cityscapes.pth", model.state_dict()


def timm(model: Classifier) -> tuple[str, Any]:
    # timm, timm/utils/checkpoint_saver.py, _save
    state = {"epoch": 9, "arch": NAME, "optimizer": optimizer_of(model), "version": 2}
    state |= {"args": options(), "state_dict": model.state_dict(), "metric": 71.0}
    state["saver"] = {"checkpoint_files": [("checkpoint-9.pth.tar", 71.0)], "pending": (9, None)}
    return "model_best.pth.tar", state | {"state_dict_ema": network(9).state_dict()}


def torchvision_reference(model: Classifier) -> tuple[str, Any]:
    # torchvision, references/classification/train.py: model_ema is an AveragedModel
    averaged = torch.optim.swa_utils.AveragedModel(network(9))
    state = {"model": model.state_dict(), "epoch": 9, "args": options()}
    return "model_9.pth", state | {"model_ema": averaged.state_dict()}


def torchvision_weights(model: Classifier) -> tuple[str, Any]:
    return f"{NAME}-b627a593.pth", OrderedDict(model.state_dict())


class Lightning(nn.Module):
    """A LightningModule: a network beside a loss with weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.criterion = model, nn.CrossEntropyLoss(weight=torch.ones(CLASSES))


def lightning(model: Classifier) -> tuple[str, Any]:
    # Lightning, trainer/connectors/checkpoint_connector.py, dump_checkpoint
    state = {"epoch": 3, "global_step": 99, "pytorch-lightning_version": "2.5.0", "loops": {}}
    state |= {"state_dict": Lightning(model).state_dict(), "callbacks": defaultdict(dict)}
    state |= {"optimizer_states": [optimizer_of(model)], "hyper_parameters": {"arch": NAME}}
    return "epoch=3-step=99.ckpt", state


def compiled_and_parallel(model: Classifier) -> tuple[str, Any]:
    names = {f"module.model._orig_mod.{k}": v for k, v in model.state_dict().items()}
    return "ddp.pt", {"net": names}


def with_averages_only(model: Classifier) -> tuple[str, Any]:
    return "ema.pth", {"state_dict_ema": model.state_dict()}


WRITERS: list[Callable[[Classifier], tuple[str, Any]]] = [
    repdistiller,
    repdistiller_last,
    repdistiller_student,
    simkd,
    mdistiller_student,
    mdistiller_whole,
    dist,
    dist_segmentation,
    timm,
    torchvision_reference,
    torchvision_weights,
    lightning,
    compiled_and_parallel,
    with_averages_only,
]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_a_project_s_file_is_recognised_and_loads(
    write: Callable[[Classifier], tuple[str, Any]], zipped: bool, tmp_path: Path
) -> None:
    model = network()
    name, content = write(model)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = recognise(read_weights(path))
    assert (found.model, found.classes, found.channels) == (NAME, CLASSES, 3)
    assert same(found.state, model.state_dict())
    other = network(2)
    load_checkpoint(other, path)
    assert same(other.state_dict(), model.state_dict())


def test_a_safetensors_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    model = network()
    for name in ("model.safetensors", "pytorch_model.bin"):
        save_file(model.state_dict(), tmp_path / name)
        assert same(recognise(read_weights(tmp_path / name)).state, model.state_dict())


@pytest.mark.parametrize("write", [timm, torchvision_reference], ids=lambda w: w.__name__)
def test_moving_averages_are_taken_where_asked_for_and_told(
    write: Callable[[Classifier], tuple[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "both.pth"
    torch.save(write(network())[1], path)
    plain, averaged = read_weights(path), read_weights(path, ema=True)
    assert (plain.ema, plain.has_other_ema) == (False, True)
    assert (averaged.ema, averaged.has_other_ema) == (True, False)
    assert same(recognise(averaged).state, network(9).state_dict())


def test_averages_alone_are_taken_and_told(tmp_path: Path) -> None:
    path = tmp_path / "ema.pth"
    torch.save(with_averages_only(network())[1], path)
    assert read_weights(path).ema


def test_asking_for_averages_that_are_not_there_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    torch.save(network().state_dict(), path)
    with pytest.raises(UserError, match="has no EMA weights; looked for state_dict_ema"):
        read_weights(path, ema=True)


def test_a_file_older_than_the_counters_of_batches_loads(tmp_path: Path) -> None:
    path, model = tmp_path / "2017.pth", network()
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    torch.save(state, path)
    assert same(recognise(read_weights(path)).state, model.state_dict())


def test_half_precision_loads(tmp_path: Path) -> None:
    path, model = tmp_path / "half.pth", network().half()
    torch.save(model.state_dict(), path)
    other = network(2)
    load_checkpoint(other, path)
    assert same(other.state_dict(), model.float().state_dict())


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "nan.pth", network().state_dict()
    state["fc.bias"][3] = float("nan")
    torch.save(state, path)
    with pytest.raises(UserError, match=r"nan\.pth is of no use: fc\.bias has NaN"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["meta", "sparse", "integer"])
def test_tensors_that_are_no_plain_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    path, model = tmp_path / "odd.pth", network()
    state, weight = model.state_dict(), model.state_dict()["fc.weight"]
    if kind == "meta":
        state["fc.weight"] = weight.to("meta")
    elif kind == "sparse":
        state["fc.weight"] = weight.to_sparse()
    else:
        state["fc.weight"] = weight.long()
    torch.save(state, path)
    with pytest.raises(UserError, match=r"odd\.pth .*fc\.weight"):
        load_checkpoint(network(2), path)
