"""What augmentation costs a batch, beside a DataLoader with the same torchvision transforms.

    python benchmarks/augmentation.py [--size 32] [--batch-size 128] [--rounds 5] [--steps 10]

Images in memory, random noise. Each contestant gives normalised batches, in a process of its own
with --threads threads (default: 1), and both take turns:

- rkkd: `Stream`, all images of a batch at once, on --device;
- DataLoader: torchvision.transforms.v2 image by image, in its own process (no workers: so many
  would divide its time by as many cores at best), then MixUp and CutMix by batch.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2
from turns import Row, Step, parser, ratios, row, show, take_turns

from rkkd_cli.data.augmentation import Augmentation
from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.stream import Stream

Sample = tuple[torch.Tensor, int]
CLASSES, MEAN, STD = 10, (0.5,) * 3, (0.25,) * 3
RECIPES = {
    "crop and flip": Augmentation(),
    "RandAugment, erasing, mixup, CutMix": Augmentation(
        "rand", random_erase=0.25, mixup_alpha=0.8, cutmix_alpha=1.0
    ),
    "TrivialAugment, colour jitter": Augmentation("trivial", color_jitter=(0.4,)),
}


def noise(count: int, size: int) -> LabelledImages:
    """Return so many random images."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return LabelledImages(images, np.arange(count) % CLASSES)


def ours(recipe: str, size: int, batch_size: int, threads: int, device: str) -> Step:
    """Return what takes the next batch of a stream."""
    torch.set_num_threads(threads)
    images, names = noise(4 * batch_size, size), tuple(map(str, range(CLASSES)))
    dataset = Dataset("noise", images, images, None, names, MEAN, STD, 0, True, "resized",
                      augment=RECIPES[recipe])  # fmt: skip
    stream = Stream(dataset, torch.device(device), batch_size, seed=0)

    def batches() -> Iterator[object]:
        for epoch in range(1, 10**9):
            yield from stream.epoch(epoch)

    endless = batches()

    def step() -> object:
        batch = next(endless)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return batch

    return step


class Samples(TorchDataset[Sample]):
    """The images and their classes, for a DataLoader."""

    def __init__(self, images: LabelledImages) -> None:
        self.images, self.labels = torch.from_numpy(images.images), images.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.images[index], self.labels[index]


def theirs(recipe: str, size: int, batch_size: int, threads: int) -> Step:
    """Return what takes the next batch of a DataLoader."""
    torch.set_num_threads(threads)
    images, settings = noise(4 * batch_size, size), RECIPES[recipe]
    auto = {"rand": v2.RandAugment, "trivial": v2.TrivialAugmentWide}
    transform = v2.Compose([
        v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(),
        *([auto[settings.auto_augment]()] if settings.auto_augment else []),
        *([v2.ColorJitter(*settings.color_jitter * 3)] if settings.color_jitter else []),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD),
        *([v2.RandomErasing(settings.random_erase)] if settings.random_erase else []),
    ])  # fmt: skip
    alphas = {v2.MixUp: settings.mixup_alpha, v2.CutMix: settings.cutmix_alpha}
    mixes = [kind(alpha=a, num_classes=CLASSES) for kind, a in alphas.items() if a]
    mix = v2.RandomChoice(mixes) if mixes else v2.Identity()

    def collate(batch: list[Sample]) -> object:
        return mix(*default_collate([(transform(image), label) for image, label in batch]))

    loader = DataLoader(Samples(images), batch_size, True, drop_last=True, collate_fn=collate)

    def batches() -> Iterator[object]:
        while True:
            yield from loader

    endless = batches()
    return lambda: next(endless)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    for name, default in (("size", 32), ("batch-size", 128), ("rounds", 5), ("steps", 10)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    rows: list[Row] = []
    for recipe in RECIPES:
        settings = recipe, given.size, given.batch_size, given.threads
        makers = {
            "rkkd": partial(ours, *settings, given.device),
            "DataLoader": partial(theirs, *settings),
        }
        seconds = take_turns(makers, given.rounds, given.steps)
        for name, times in seconds.items():
            rows.append(row(f"{recipe}: {name}", [1e3 * each for each in times], "ms"))
        rows.append(row(f"{recipe}: ratio", ratios(seconds["DataLoader"], seconds["rkkd"]), "×"))
    print(f"batches of {given.batch_size} images of {given.size}×{given.size}, {given.rounds} "
          f"rounds of {given.steps}, {given.threads} threads, {given.device}")  # fmt: skip
    show(rows)


if __name__ == "__main__":
    main()
