"""Trains a teacher on hard labels with its own recipe."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.on_device import AnyBatch, AnyDataset, open_stream
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import Batch
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import MODELS, Classifier
from rkkd_cli.models.checkpoint.load import ReplacedHead
from rkkd_cli.tasks import task_for
from rkkd_cli.tasks.task import Task
from rkkd_cli.train.configured_model import model_input
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Event, TeacherBatch, TeacherEpoch
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.regions import DetectorLabelLoss
from rkkd_cli.train.trained_model import TrainedModel


class LabelLoss(nn.Module):
    """A model and its hard term as one module: a batch in, the loss and the outputs out."""

    def __init__(
        self,
        model: Classifier,
        precision: str,
        model_input: ModelInput,
        task: Task,
        hard: HardTerm,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.model, self.precision, self.input = model, precision, model_input
        self.task, self.hard, self.process_group = task, hard, process_group

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hard term of the batch, and how many outputs are right, (n,)."""
        with autocast(batch.images.device, self.precision):
            outputs = logits_only(self.model(self.input(batch.images)).float())
        outputs = self.process_group.gather_outputs(outputs, batch)
        targets = self.process_group.gather_labels(batch).targets
        right = self.task.count_right(outputs.logits.detach(), targets.labels)
        return self.hard.loss(self.task.features(outputs), targets), right


def required_recipe(experiment: Experiment, head: ReplacedHead | None = None) -> TrainingConfig:
    """Return the teacher's recipe; ``head`` is that of its weights which is replaced, if one is.

    Raises UserError if there is none.
    """
    if experiment.teacher.training is None and head is not None:
        has = f"{head.file_classes} classes" if head.file_classes else "no head"
        raise UserError(
            f"the teacher's weights {experiment.teacher.weights} have {has}, the dataset "
            f"{experiment.dataset.name} has {head.classes} classes: the teacher's head is replaced "
            "and has to be trained, so give a section teacher.training, or name the dataset of the "
            "weights with --dataset"
        )
    if experiment.teacher.training is None:
        raise UserError(
            "the teacher has neither a recipe nor weights; give --teacher-weights FILE or a "
            "section teacher.training"
        )
    return experiment.teacher.training


class TeacherTraining:
    """A teacher in training, and how far it is."""

    def __init__(
        self,
        model: Classifier,
        experiment: Experiment,
        dataset: AnyDataset,
        device: torch.device,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.name, self.seed = experiment.teacher.model, experiment.teacher.seed
        self.recipe = required_recipe(experiment)
        self.task, self.device_type = task_for(experiment), device.type
        self.process_group = process_group.for_batches(self.task.compares_images)
        stream_seed = derive_seed(self.seed, "teacher-stream")
        self.stream = open_stream(
            dataset,
            device,
            self.recipe.batch_size,
            stream_seed,
            last_batch=self.recipe.last_batch,
            images_per_class=self.recipe.per_class,
            batches_per_epoch=self.recipe.batches_per_epoch,
        )
        hard = self.task.hard_term(self.recipe)
        meters = EpochMeters((hard.name,), self.task.counts_of_labels, device)
        noise_seed = derive_seed(self.seed, "teacher-noise")
        takes = model_input(experiment.teacher, dataset.image_format)
        if self.task.rows_are_regions:
            loss: nn.Module = DetectorLabelLoss(model, experiment.precision, hard)
        else:
            loss = LabelLoss(
                model, experiment.precision, takes, self.task, hard, self.process_group
            )
        self.loss = process_group.wrap(loss, experiment.sync_batchnorm, self.name in MODELS)
        self.trained = TrainedModel(model, self.recipe, noise_seed, meters, process_group)
        self.epochs_done = self.batches_done = 0

    @property
    def progress(self) -> str:
        """How far the training is, for the user."""
        return f"epoch {self.epochs_done}" + (
            f" and {self.batches_done} batches" if self.batches_done else ""
        )

    def train(self) -> Iterator[Event]:
        """Train to the end; :meth:`state` may be called at each event.

        Raises RunError if the loss stops being finite.
        """
        self.trained.model.train()
        while self.epochs_done < self.recipe.epochs:
            epoch = self.epochs_done + 1
            for batch in self.stream.epoch(epoch, self.batches_done, self.process_group.shard):
                self._step(batch)
                self.batches_done += 1
                yield TeacherBatch(epoch, self.recipe.epochs, self.batches_done, len(self.stream))
            yield self._finish_epoch()

    def _step(self, batch: AnyBatch) -> None:
        trained = self.trained
        trained.set_rate(self.epochs_done + self.batches_done / len(self.stream))
        with trained.rng.active():
            loss, correct = self.loss(batch)
            trained.backward_and_step(self.process_group.scale_loss(loss, batch))
        (means,), (counts,) = self.process_group.reduce_metrics(
            [loss.detach()[None]], [correct], batch
        )
        trained.meters.add(means, counts, batch.total)

    def _finish_epoch(self) -> TeacherEpoch:
        meters, epoch = self.trained.meters, self.epochs_done + 1
        non_finite, means = meters.first_non_finite(), meters.averages()
        if non_finite is not None:
            raise RunError(
                f"the teacher {self.name}, seed {self.seed} diverged at epoch {epoch}, step "
                f"{non_finite.step}: {non_finite.term} is not finite; try a lower "
                "teacher.training.lr"
            )
        meters.reset()
        self.epochs_done, self.batches_done = epoch, 0
        (term, loss), *_ = means.items()
        return TeacherEpoch(epoch, self.recipe.epochs, term, loss, means.get("acc"))

    def is_finite(self) -> bool:
        """Tell whether the loss was finite in the epoch so far."""
        return self.trained.meters.first_non_finite() is None

    def state(self) -> dict[str, Any]:
        """Return the state dict."""
        return {
            "device": self.device_type,
            "ranks": self.process_group.world_size,
            "epochs_done": self.epochs_done,
            "batches_done": self.batches_done,
            "trained": self.trained.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Load a state dict. Raises ValueError, or what Python or torch raise, for a misfit."""
        epochs_done, batches_done = state["epochs_done"], state["batches_done"]
        if not (epochs_done >= 0 and 0 <= batches_done <= len(self.stream)):
            raise ValueError(f"batch {batches_done} after epoch {epochs_done}")
        self.trained.load(state["trained"])
        self.epochs_done, self.batches_done = epochs_done, batches_done
