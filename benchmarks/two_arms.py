"""What a pair of arms costs, beside a plain PyTorch script that trains one arm after the other.

    python benchmarks/two_arms.py [--rounds 5] [--steps 2] [--threads 2] [--device cpu]

resnet32x4 teaches resnet8x4, 64 images of CIFAR-100's shape a batch, with and without the ranking
loss. The plain script is what is patched for such a study today (mdistiller, say): one
process per arm, each with the teacher's pass of its own, float32, PyTorch's defaults, the ranking
loss as pairwise differences under autograd, losses and accuracy read after each step. rkkd's step
is everything it does for a batch: gathering and augmenting the images, the teacher's pass, both
arms' steps, all records. Each contestant has a process of its own, and they take turns. On CUDA
they take a hundred batches at a time, and rkkd's step is also replayed as a CUDA graph.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from turns import Row, Step, parser, ratios, row, show, take_turns

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Stream
from rkkd_cli.files import file_sha256
from rkkd_cli.models import build_model
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cuda_graph import CudaGraphRecorder
from rkkd_cli.train.device import keep_freed_memory, use_precision, use_threads
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Note
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.teacher.logit_cache import LogitCache
from rkkd_cli.train.teacher.model import freeze

AT_A_TIME = {"cuda": 100}  # batches; a GPU works on while the next ones are launched


class Study(NamedTuple):
    """The arms of a preset, and what they train on: random images, and some teacher."""

    preset: str
    teacher: str
    student: str
    batch: int
    classes: int
    image: tuple[int, int, int]  # channels, height, width

    @property
    def images(self) -> int:
        """The images of an epoch."""
        return self.batch * 400


TWO_ARMS = Study("rank_grad_cifar100", "resnet32x4", "resnet8x4", 64, 100, (3, 32, 32))


def plain_arm(with_ranking: bool, device: str, threads: int) -> Step:
    """Return the step of a plain script for one arm."""
    torch.set_num_threads(threads)
    return _several(plain_batches(TWO_ARMS, with_ranking, device), device)


def plain_batches(study: Study, with_ranking: bool, device: str) -> Step:
    """Return what trains one plain arm on one more batch, whose images are augmented already."""
    channels = study.image[0]
    teacher = build_model(study.teacher, study.classes, channels).to(device).eval()
    student = build_model(study.student, study.classes, channels).to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(study.batch, *study.image)
    labels = torch.arange(study.batch) % study.classes

    def batch() -> tuple[float, float]:
        here, there = images.to(device), labels.to(device)
        with torch.no_grad():
            taught = teacher(here)
        logits = student(here)
        loss = 0.1 * F.cross_entropy(logits, there) + 0.9 * 16 * F.kl_div(
            F.log_softmax(logits / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean"
        )
        if with_ranking:
            loss = loss + 0.9 * plain_ranking_loss(logits, taught, 100.0)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        correct = (logits.topk(5).indices == there[:, None]).float()
        return loss.item(), correct[:, 0].mean().item()

    return batch


def _several(batch: Step, device: str) -> Step:
    """Return what takes as many batches as are timed at once."""
    where = torch.device(device)

    def step() -> None:
        for _ in range(AT_A_TIME.get(where.type, 1)):
            batch()
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    return step


def plain_ranking_loss(student: Tensor, teacher: Tensor, steepness: float) -> Tensor:
    """Return the ranking loss of all pairs, as autograd is told of it."""
    of_student = torch.tanh(steepness * (student[:, :, None] - student[:, None, :]))
    of_teacher = torch.tanh(steepness * (teacher[:, :, None] - teacher[:, None, :]))
    pairs = student.shape[1] * (student.shape[1] - 1)
    return -(of_student * of_teacher).sum(dim=(1, 2)).mean() / pairs


def lockstep_of(
    precision: str,
    device: str,
    graph: bool = False,
    kept: Path | None = None,
    stacked: bool = False,
    arms: int | None = None,
    study: Study = TWO_ARMS,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Lockstep:
    """Return rkkd's training of the study's last ``arms`` arms, or of all.

    The teacher's outputs are read from ``kept`` if given. In a ``process_group`` on GPUs, BatchNorm
    is synchronised.
    """
    where = torch.device(device)
    given = [Override("precision", precision), Override("training.epochs", 1000)]
    if process_group is not SINGLE_PROCESS and where.type == "cuda":
        given.append(Override("sync_batchnorm", True))
    resolved = load_experiment(study.preset, given).resolved_arms[-arms if arms else 0 :]
    (channels, *size), classes = study.image, study.classes
    model = build_model(study.teacher, classes, channels).to(memory_format=torch.channels_last)
    teacher = freeze(model, where, precision, classes, taken_as_is(channels, (size[0], size[1])))
    stream = Stream(_random_images(study), where, study.batch, seed=0)
    return Lockstep(
        "benchmark",
        stream,
        teacher,
        [ArmOnStream(arm, 0, teacher, stream.data.labels, process_group) for arm in resolved],
        epochs=1000,
        held_out={},
        stacked=stacked,
        logit_cache=None if kept is None else LogitCache(kept, "exact", study.images, classes),
        process_group=process_group,
        graph_recorder=CudaGraphRecorder(where) if graph else None,
    )


def batches_of(lockstep: Lockstep) -> Step:
    """Return what trains all arms on one more batch."""
    events = lockstep.train()

    def batch() -> None:
        event = next(events)
        if isinstance(event, Note):
            raise SystemExit(event.text)
        if lockstep.step and lockstep.step.problem:
            raise SystemExit(f"no CUDA graph: {lockstep.step.problem}")

    return batch


def both_arms(
    precision: str, device: str, threads: int, graph: bool = False, kept: Path | None = None
) -> Step:
    """Return rkkd's step for both arms, in a process that is set up as for a run."""
    use_threads(threads)
    keep_freed_memory()
    use_precision(torch.device(device), precision)
    return _several(batches_of(lockstep_of(precision, device, graph, kept)), device)


def _random_images(study: Study) -> Dataset:
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (study.images, *study.image), dtype=np.uint8)
    images = LabelledImages(pixels, np.arange(study.images) % study.classes)
    names = tuple(str(number) for number in range(study.classes))
    channels = study.image[0]
    mean, deviation = (0.5,) * channels, (0.25,) * channels
    return Dataset("noise", images, images, None, names, mean, deviation, 4, True)


def keep_outputs(folder: Path) -> None:
    """Write the first epoch's outputs of some teacher."""
    shape = (TWO_ARMS.images, TWO_ARMS.classes)
    logits = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.save(folder / "epoch.npy", logits)
    (folder / "epoch.npy").rename(folder / f"000001-{file_sha256(folder / 'epoch.npy')}.npy")


def contestants(device: str, threads: int, kept: Path) -> dict[str, Callable[[], Step]]:
    """Return what makes each one's step; outputs of a teacher are kept in ``kept``."""
    of_rkkd = partial(both_arms, device=device, threads=threads)
    makers: dict[str, Callable[[], Step]] = {
        "plain kd": partial(plain_arm, False, device, threads),
        "plain kd_rank": partial(plain_arm, True, device, threads),
        "rkkd fp32": partial(of_rkkd, "fp32"),
        "rkkd bf16": partial(of_rkkd, "bf16"),
    }
    if torch.device(device).type == "cuda":
        return makers | {
            f"rkkd {one}, CUDA graph": partial(of_rkkd, one, graph=True)
            for one in ("fp32", "tf32", "bf16")
        }
    return makers | {
        f"rkkd {one}, cached teacher": partial(of_rkkd, one, kept=kept) for one in ("fp32", "bf16")
    }


def measure(rounds: int, steps: int, threads: int, device: str) -> list[Row]:
    """Return times and ratios."""
    kind = torch.device(device).type
    with TemporaryDirectory() as name:
        keep_outputs(Path(name))
        taken = take_turns(contestants(device, threads, Path(name)), rounds, steps)
    seconds = {
        name: [one / AT_A_TIME.get(kind, 1) for one in times] for name, times in taken.items()
    }
    pairs = zip(seconds.pop("plain kd"), seconds.pop("plain kd_rank"), strict=True)
    plain = [one + other for one, other in pairs]
    bars = {"rkkd fp32": "at least 1.6", "rkkd bf16": "at least 3"} if kind == "cpu" else {}
    return [
        row("two plain scripts, a batch", plain, "s"),
        *(row(f"{name}, a batch", times, "s") for name, times in seconds.items()),
        *(
            row(f"plain / {name}", ratios(plain, times), "x", bars.get(name, ""))
            for name, times in seconds.items()
        ),
    ]


def main() -> None:
    """Measure and print."""
    own = parser(__doc__)
    own.add_argument("--rounds", type=int, default=5)
    own.add_argument("--steps", type=int, default=2)
    own.add_argument("--threads", type=int, default=2)
    own.add_argument("--device", default="cpu")
    options = own.parse_args()
    measured = measure(options.rounds, options.steps, options.threads, options.device)
    show(measured)


if __name__ == "__main__":
    main()
