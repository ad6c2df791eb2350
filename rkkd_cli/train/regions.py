"""Detectors in training and on held-out images: rows are regions, which a model has to choose.

Shapes: R regions of a batch, C columns of their logits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from rkkd_cli.data.detection.batches import DetectionBatch, DetectionImages, without_crowds
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods import DistillInputs, Objective
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.methods.inputs import as_float32
from rkkd_cli.models import Classifier, Features
from rkkd_cli.models.detection.detector import Detections, Detector, DetectorOutputs, Regions
from rkkd_cli.models.detection.two_stage import TwoStage
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.tasks.task import FoundInImage, HeldOutRows, Task
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.taught_batch import Compared, StepOutput, TaughtBatch

HELD_OUT_REGIONS = 100  # of an image, on which students are compared with the teacher
OUTPUT_BATCH = 8


class TaughtScenes(NamedTuple):
    """A batch, the teacher's maps of it, and the epoch (from 1).

    ``shared``: the teacher's own regions with its features there, if all arms are compared there.
    """

    batch: DetectionBatch
    teacher: Detector
    precision: str
    maps: tuple[Tensor, ...]
    shared: tuple[Regions, Features] | None
    epoch: int
    epochs: int

    def at(self, regions: Regions) -> Features:
        """Return the teacher's features at regions."""
        if self.shared is not None and self.shared[0] is regions:
            return self.shared[1]
        return features_at(self.teacher, self.maps, regions, self.batch, self.precision)


@torch.no_grad()
def teach_scenes(
    teacher: Detector,
    precision: str,
    shares_proposals: bool,
    batch: DetectionBatch,
    epoch: int = 1,
    epochs: int = 1,
) -> TaughtScenes:
    """Run the teacher's backbone on the batch; and its heads, if all arms share its regions."""
    with autocast(batch.images.device, precision):
        maps = teacher.feature_maps(batch.images)
        taught = TaughtScenes(batch, teacher, precision, maps, None, epoch, epochs)
        if not shares_proposals:
            return taught
        regions = teacher.propose(batch.images, maps, batch.sizes, batch.objects)
    return taught._replace(shared=(regions, taught.at(regions)))


@torch.no_grad()
def features_at(
    teacher: Detector,
    maps: tuple[Tensor, ...],
    regions: Regions,
    batch: DetectionBatch,
    precision: str,
) -> Features:
    """Return a frozen detector's features at regions, in float32."""
    with autocast(batch.images.device, precision):
        pooled, logits = teacher.at_regions(maps, regions, batch.sizes, batch.images)
    return as_float32(Features(maps, pooled, logits))


AnyTaught = TaughtBatch | TaughtScenes


class RegionLoss(nn.Module):
    """A student and its objective as one module: a batch in, the loss and what is recorded out."""

    def __init__(
        self,
        model: nn.Module,
        student: Classifier,
        objective: Objective,
        precision: str,
    ) -> None:
        super().__init__()
        assert isinstance(student, Detector)
        self.model, self.student = model, student
        self.objective, self.precision = objective, precision

    def forward(self, taught: TaughtScenes) -> tuple[Tensor, StepOutput]:
        """Return the loss of the batch, and what is recorded of it."""
        batch = taught.batch
        with autocast(batch.images.device, self.precision):
            found = self.student.train_outputs(batch.images, batch.sizes, batch.objects)
            regions, rows = self._rows(found, taught)
        teacher, targets = taught.at(regions), Targets(regions.labels)
        if not len(regions.labels):  # anchors may miss all objects of a batch
            rows, teacher = _with_one_row(rows), _with_one_row(teacher)
            targets = Targets(batch.indices.new_zeros(1))
        inputs = DistillInputs(
            student=rows,
            teacher=teacher,
            targets=targets,
            sample_indices=batch.indices,
            epoch=taught.epoch,
            epochs=taught.epochs,
            label_terms=found.losses,
        )
        loss = self.objective.loss(inputs)
        raw = {name: value.detach() for name, value in found.losses.items()}
        hard = self.objective.hard
        terms = loss.method_terms | {name: raw[name] for name in hard.others}
        compared = Compared(teacher.logits, targets, raw[hard.name])
        return loss.total, StepOutput(rows.logits.detach()[None], [terms], compared)

    def _rows(self, found: DetectorOutputs, taught: TaughtScenes) -> tuple[Regions, Features]:
        """Return where student and teacher are compared, and the student's features there."""
        if taught.shared is None:
            return found.regions, Features(found.maps, found.pooled, found.logits)
        regions, _ = taught.shared
        batch = taught.batch
        pooled, logits = self.student.at_regions(found.maps, regions, batch.sizes, batch.images)
        return regions, Features(found.maps, pooled, logits)


def _with_one_row(features: Features) -> Features:
    """Return features without rows with one of equal logits, which no term compares."""
    logits = features.logits.new_zeros(1, features.logits.shape[1])
    return features._replace(logits=logits, pooled=features.pooled.new_zeros(1, 0))


class DetectorLabelLoss(nn.Module):
    """A detector and its terms of the labels as one module: a batch in, their sum out."""

    def __init__(self, model: Classifier, precision: str, hard: HardTerm) -> None:
        super().__init__()
        assert isinstance(model, Detector)
        self.model, self.precision, self.hard = model, precision, hard

    def forward(self, batch: DetectionBatch) -> tuple[Tensor, Tensor]:
        """Return the loss of the batch, and no counts, (0,)."""
        with autocast(batch.images.device, self.precision):
            losses = self.model.train_outputs(batch.images, batch.sizes, batch.objects).losses
        total = torch.stack([losses[name] for name in (self.hard.name, *self.hard.others)]).sum()
        return total, batch.indices.new_empty(0)


class TaughtRegions:
    """A held-out split with the teacher's best regions in each image.

    Regions and logits stay on the CPU: 36 kB for an image and COCO's 80 classes. ``batches`` and
    ``process_group`` are as in :class:`rkkd_cli.train.metrics.evaluate.TaughtSplit`.
    """

    def __init__(
        self,
        task: Task,
        images: DetectionImages,
        teacher: Detector,
        precision: str,
        batches: int = 0,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.task, self.images, self.outputs = task, images, teacher.num_classes
        self.target_columns: tuple[str, ...] = ()
        self.batches, self.process_group = batches, process_group
        self.teacher, self.precision = teacher, precision
        self.places: list[Tensor] = []  # of each image
        self.labels: list[Tensor] = []
        self.logits: list[Tensor] = []
        for batch in images.in_order(OUTPUT_BATCH):
            regions, logits = _best_regions(teacher, batch, precision)
            counts = [len(places) for places in regions.places]
            self.places += [places.cpu() for places in regions.places]
            self.labels += torch.split(regions.labels.cpu(), counts)
            self.logits += torch.split(logits.cpu(), counts)

    def found_by_teacher(self, numbers: Sequence[int]) -> list[FoundInImage]:
        """Return what the teacher finds in some images of the split."""
        views = [self.images.test_view]
        found = []
        for number in numbers:
            split = self.images.split
            pixels, objects = torch.tensor(split.read(number)), split.objects(number)
            size = self.images.padded_size([number], views)
            batch = self.images.batch([number], [pixels], [objects], views, size)
            found += found_in(batch, _detections(self.teacher, batch, self.precision), self.images)
        return found

    def in_order(self) -> Iterator[DetectionBatch]:
        """Yield the images in the batches in which they are evaluated."""
        return self.images.in_order(self.task.evaluation_batch, self.task.evaluation_rest)

    def regions_of(self, batch: DetectionBatch) -> Regions:
        """Return the teacher's regions in a batch."""
        chosen, device = batch.indices.tolist(), batch.images.device
        labels = torch.cat([self.labels[index] for index in chosen])
        places = tuple(self.places[index].to(device) for index in chosen)
        return Regions(places, labels.to(device))

    def teacher_rows(self, batch: DetectionBatch) -> Tensor:
        """Return the teacher's logits (R, C) at its regions in a batch."""
        chosen = batch.indices.tolist()
        return torch.cat([self.logits[index] for index in chosen]).to(batch.images.device)

    def held_out_rows(self, model: nn.Module, images: Tensor, batch: DetectionBatch) -> HeldOutRows:
        """Return a student's logits at the teacher's regions, and its detections."""
        assert isinstance(model, Detector)
        regions, maps = self.regions_of(batch), model.feature_maps(images)
        _, logits = model.at_regions(maps, regions, batch.sizes, images)
        found = found_in(batch, model.detect(maps, images, batch.sizes), self.images)
        return HeldOutRows(logits.float(), Targets(regions.labels), found)


@torch.no_grad()
def _best_regions(
    teacher: Detector, batch: DetectionBatch, precision: str
) -> tuple[Regions, Tensor]:
    """Return the teacher's best regions of each image, or its foreground anchors, with logits."""
    with in_eval_mode(teacher), autocast(batch.images.device, precision):
        maps = teacher.feature_maps(batch.images)
        objects = [without_crowds(one) for one in batch.objects]
        # Anchors without an object have no class: of one stage those are compared that have one.
        count = HELD_OUT_REGIONS if isinstance(teacher, TwoStage) else None
        regions = teacher.propose(batch.images, maps, batch.sizes, objects, count)
    return regions, features_at(teacher, maps, regions, batch, precision).logits


def found_in_split(
    detector: Detector, images: DetectionImages, precision: str
) -> Iterator[FoundInImage]:
    """Yield what a detector finds in each image of a split."""
    for batch in images.in_order(OUTPUT_BATCH):
        yield from found_in(batch, _detections(detector, batch, precision), images)


@torch.no_grad()
def _detections(detector: Detector, batch: DetectionBatch, precision: str) -> list[Detections]:
    with in_eval_mode(detector), autocast(batch.images.device, precision):
        maps = detector.feature_maps(batch.images)
        return detector.detect(maps, batch.images, batch.sizes)


def found_in(
    batch: DetectionBatch, detections: Sequence[Detections], images: DetectionImages
) -> list[FoundInImage]:
    """Return the detections in a batch, and its objects, in pixels of the original images."""
    indices = batch.indices.tolist()
    boxes = [
        resize_boxes(found.boxes, list(size), list(original))
        for found, size, original in zip(detections, batch.sizes, batch.originals, strict=True)
    ]
    return [
        FoundInImage(index, found._replace(boxes=in_original), images.split.objects(index))
        for index, found, in_original in zip(indices, detections, boxes, strict=True)
    ]
