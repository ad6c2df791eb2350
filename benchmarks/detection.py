"""What two detector arms cost, beside a plain torchvision script for one arm after the other.

    python benchmarks/detection.py [--rounds 5] [--steps 2] [--threads 2]

The preset detection_scenes: 8 scenes a batch, with and without the ranking loss. The plain script
is what is patched for such a study: one process per arm, torchvision's own transform, losses and
region sampling, the teacher's backbone and head run for that arm, losses read after each step.
rkkd's step is everything it does for a batch, records included. Each contestant has a process of
its own, and they take turns.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from turns import Row, Step, parser, ratios, row, show, take_turns
from two_arms import plain_ranking_loss

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.detection.stream import DetectionStream
from rkkd_cli.models.detection.build import build_detector
from rkkd_cli.sweep.datasets import load
from rkkd_cli.tasks import task_for
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.configured_model import model_input
from rkkd_cli.train.device import keep_freed_memory, use_threads
from rkkd_cli.train.events import BatchDone
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.teacher.model import freeze

CPU = torch.device("cpu")
TWO_ARMS = {"kd": {}, "kd_rank": {"rank": {"grad": True}}}


def study() -> tuple[Experiment, DetectionDataset]:
    """Return the preset with two arms, and its scenes."""
    preset = load_experiment("detection_scenes", [Override("training.epochs", 1000)])
    experiment = preset.model_copy(update={"arms": TWO_ARMS, "findings": {}})
    with TemporaryDirectory() as cache:
        dataset = load(experiment, Path(cache))
    assert isinstance(dataset, DetectionDataset)
    return experiment, dataset


def network_of(experiment: Experiment, role: str, classes: int) -> Any:
    """Return torchvision's own network of the student or the teacher."""
    config = getattr(experiment, role)
    return build_detector(config.model, classes, config.given_options).network


def plain_arm(with_ranking: bool, threads: int) -> Step:
    """Return the step of a plain script for one arm."""
    torch.set_num_threads(threads)
    experiment, dataset = study()
    classes = len(dataset.classes)
    student = network_of(experiment, "student", classes).train()
    teacher = network_of(experiment, "teacher", classes).eval()
    transform = GeneralizedRCNNTransform(128, 128, list(dataset.mean), list(dataset.std))
    transform.resize = lambda image, target: (image, target)  # scenes are shown as they are
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    order, taken = torch.randperm(len(dataset.train)).tolist(), 0

    def step() -> float:
        nonlocal taken
        chosen = [order[(taken + n) % len(order)] for n in range(8)]
        taken += 8
        pixels = [torch.from_numpy(dataset.train.read(n)).permute(2, 0, 1) / 255 for n in chosen]
        found = [dataset.train.objects(n) for n in chosen]
        targets = [{"boxes": one.boxes, "labels": one.labels + 1} for one in found]
        images, targets = transform(pixels, targets)
        losses, logits, boxes = torchvision_losses(student, images, targets)
        with torch.no_grad():
            maps = teacher.backbone(images.tensors)
            pooled = teacher.roi_heads.box_roi_pool(maps, boxes, images.image_sizes)
            taught, _ = teacher.roi_heads.box_predictor(teacher.roi_heads.box_head(pooled))
        kl = F.kl_div(logits.log_softmax(1), taught.softmax(1), reduction="batchmean")
        loss = sum(losses.values()) + kl
        if with_ranking:
            loss = loss + plain_ranking_loss(logits, taught, 5.0)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        return loss.item()

    return step


def torchvision_losses(
    student: Any, images: Any, targets: Any
) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
    """Return torchvision's losses in training, with the logits and boxes of the sampled regions."""
    maps, heads = student.backbone(images.tensors), student.roi_heads
    proposals, of_proposals = student.rpn(images, maps, targets)
    boxes, _, labels, regression = heads.select_training_samples(proposals, targets)
    pooled = heads.box_roi_pool(maps, boxes, images.image_sizes)
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    of_classes, of_boxes = fastrcnn_loss(logits, deltas, labels, regression)
    losses = {"classes": of_classes, "boxes": of_boxes, **of_proposals}
    return losses, logits, boxes


def both_arms(threads: int, proposals: str) -> Step:
    """Return rkkd's step for both arms, in a process that is set up as for a run."""
    use_threads(threads)
    keep_freed_memory()
    experiment, dataset = study()
    classes = len(dataset.classes)
    task = task_for(experiment)
    task.shares_proposals = proposals == "teacher"  # type: ignore[attr-defined]
    model = build_detector(experiment.teacher.model, classes, experiment.teacher.given_options)
    takes = model_input(experiment.teacher, dataset.image_format)
    teacher = freeze(model, CPU, "fp32", classes, takes, task)
    stream = DetectionStream(dataset, CPU, 8, seed=0)
    arms = [ArmOnStream(arm, 0, teacher, torch.empty(0)) for arm in experiment.resolved_arms]
    events = Lockstep("benchmark", stream, teacher, arms, epochs=1000, held_out={}).train()

    def step() -> None:
        while not isinstance(next(events), BatchDone):
            pass

    return step


def measure(rounds: int, steps: int, threads: int) -> list[Row]:
    """Return times and ratios."""
    makers = {
        "plain kd": partial(plain_arm, False, threads),
        "plain kd_rank": partial(plain_arm, True, threads),
        "rkkd, regions of each student": partial(both_arms, threads, "student"),
        "rkkd, regions of the teacher": partial(both_arms, threads, "teacher"),
    }
    taken = take_turns(makers, rounds, steps)
    pairs = zip(taken.pop("plain kd"), taken.pop("plain kd_rank"), strict=True)
    plain = [one + other for one, other in pairs]
    return [
        row("two plain scripts, a batch", plain, "s"),
        *(row(f"{name}, a batch", times, "s") for name, times in taken.items()),
        *(row(f"plain / {name}", ratios(plain, times), "x") for name, times in taken.items()),
    ]


def main() -> None:
    """Measure and print."""
    own = parser(__doc__)
    own.add_argument("--rounds", type=int, default=5)
    own.add_argument("--steps", type=int, default=2)
    own.add_argument("--threads", type=int, default=2)
    options = own.parse_args()
    show(measure(options.rounds, options.steps, options.threads))


if __name__ == "__main__":
    main()
