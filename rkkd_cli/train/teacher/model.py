"""The teacher: frozen, in eval mode, one forward pass per batch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.data.detection.batches import DetectionBatch, DetectionImages
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.on_device import AnyBatch, AnyImages
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods.inputs import as_float32, logits_only
from rkkd_cli.models import Classifier, Features, count_parameters
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.models.fold_batchnorm import fold
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.tasks.detection import Detection
from rkkd_cli.tasks.task import HeldOutRows, Task
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.evaluate import HeldOutSplit, TaughtSplit, all_outputs
from rkkd_cli.train.regions import AnyTaught, TaughtRegions, found_in_split, teach_scenes
from rkkd_cli.train.taught_batch import FeatureNeeds, TeacherOutputs, run_teacher

# A trained teacher is better than guessing by this share of what could be gained, and by more than
# so many standard errors of guessing.
MIN_GAIN, STANDARD_ERRORS = 0.05, 3.0


@dataclass(frozen=True)
class Teacher:
    """A trained model that does not change. Its outputs are computed by ``folded``.

    ``input`` makes its images of those of the stream. ``class_names`` are those of a detector.
    """

    model: Classifier
    device: torch.device
    precision: str
    num_classes: int
    input: ModelInput
    task: Task = CLASSIFICATION_TASK
    class_names: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all weights, whatever file they came from."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @cached_property
    def folded(self) -> Classifier:
        """The model with BatchNorm folded into convolutions: faster, equal up to rounding."""
        own = self.input.own
        return fold(self.model, (own.channels, *own.size))

    @torch.no_grad()
    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the outputs on a stream's images in float32, and features if requested."""
        images = self.input(images)
        with autocast(self.device, self.precision):
            if features:
                outputs = self.folded.forward_features(images)
            else:
                outputs = logits_only(self.folded(images))
        return as_float32(outputs)._replace(logits=outputs.logits.float())

    def taught_split(
        self, split: AnyImages, batches: int = 0, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> HeldOutSplit:
        """Return the split with this teacher's outputs on it; see TaughtSplit for the others."""
        assert isinstance(split, DeviceImages)
        outputs = self.all_outputs(split)
        return TaughtSplit(self.task, split, outputs, batches, process_group)

    def measured(self, split: AnyImages) -> dict[str, Any]:
        """Return what the records say of the teacher on the test images."""
        assert isinstance(split, DeviceImages)
        outputs = all_outputs(self.model, split, self.precision, self.input)
        return self.task.teacher_facts(outputs, split.labels)

    def all_outputs(self, split: DeviceImages) -> Tensor:
        """Return the model's outputs (N, D) for every image of the split."""
        return all_outputs(self.folded, split, self.precision, self.input)


@dataclass(frozen=True)
class DetectorTeacher(Teacher):
    """A trained detector, whose rows are at regions."""

    shares_proposals: bool = False

    @property
    def detector(self) -> Detector:
        """The model."""
        assert isinstance(self.model, Detector)
        return self.model

    @cached_property
    def folded(self) -> Classifier:
        """The model as it is: by rounding alone it would propose other regions."""
        return self.model

    def taught_split(
        self, split: AnyImages, batches: int = 0, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> HeldOutSplit:
        """Return the split with this teacher's best regions in it."""
        assert isinstance(split, DetectionImages)
        teacher = self.detector, self.precision
        return TaughtRegions(self.task, split, *teacher, batches, process_group)

    def measured(self, split: AnyImages) -> dict[str, Any]:
        """Return COCO's metrics of a split in percent."""
        assert isinstance(split, DetectionImages)
        found = self.task.held_out_metrics(self.num_classes, self.device)
        images = [*found_in_split(self.detector, split, self.precision)]
        found.add(HeldOutRows(torch.empty(0), Targets(torch.empty(0)), images))
        values = {f"test_{name}": value for name, value in found.values().items()}
        return values | {"test_images": len(split)}


def teach(
    teacher: TeacherOutputs,
    batch: AnyBatch,
    needs: FeatureNeeds,
    epoch: int = 1,
    epochs: int = 1,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> AnyTaught:
    """Run the teacher on the batch, once for all arms."""
    if isinstance(batch, DetectionBatch):
        assert isinstance(teacher, DetectorTeacher)
        return teach_scenes(
            teacher.detector, teacher.precision, teacher.shares_proposals, batch, epoch, epochs
        )
    return run_teacher(teacher, batch, needs, epoch, epochs, process_group)


def freeze(
    model: Classifier,
    device: torch.device,
    precision: str,
    num_classes: int,
    model_input: ModelInput,
    task: Task = CLASSIFICATION_TASK,
    class_names: tuple[str, ...] = (),
) -> Teacher:
    """Return the model as a teacher on the device: in eval mode, without gradients."""
    model = model.to(device).eval().requires_grad_(False)
    if isinstance(task, Detection):
        facts = model, device, precision, num_classes, model_input, task, class_names
        return DetectorTeacher(*facts, shares_proposals=task.shares_proposals)
    return Teacher(model, device, precision, num_classes, model_input, task)


def measure_teacher(
    teacher: Teacher, name: str, options: Mapping[str, Any], test: AnyImages
) -> dict[str, Any]:
    """Return a teacher's model name, its options if any, parameters and test metrics."""
    return {
        "model": name,
        **({"options": dict(options)} if options else {}),
        "parameters": count_parameters(teacher.model),
        **teacher.measured(test),
    }


def chance_notes(facts: Mapping[str, Any], is_trained_here: bool = False) -> list[str]:
    """Return the sentence about a measured teacher that is hardly better than guessing."""
    if "chance" not in facts:
        return []
    test_acc, chance = facts["test_acc"], facts["chance"]
    standard_error = (chance * (100 - chance) / facts["test_images"]) ** 0.5
    if test_acc - chance >= max(MIN_GAIN * (100 - chance), STANDARD_ERRORS * standard_error):
        return []
    reason = (
        "it has hardly learnt; train it for longer (teacher.training)"
        if is_trained_here
        else "the normalisation (teacher.mean, teacher.std), the order of the classes or the "
        "preprocessing may differ from those of its training"
    )
    measured, guessing = f"the teacher's {test_acc:.2f} %", f"the {chance:.2f} % of guessing"
    if test_acc - chance >= MIN_GAIN * (100 - chance):
        few = f"they are few, {facts['test_images']}"
        return [f"{measured} of the test images cannot be told from {guessing}: {few}; or {reason}"]
    return [f"{measured} is near {guessing}: {reason}"]
