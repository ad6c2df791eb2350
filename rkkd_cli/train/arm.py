"""One arm on one stream: its student, optimiser, random generators and meters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.monitors import EMA_MONITORS
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.methods import ModelPair, Objective, build_objective
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import MODELS, Classifier, Features
from rkkd_cli.models.first_weights import LoadedWeights
from rkkd_cli.tasks import task_for
from rkkd_cli.tasks.task import Task
from rkkd_cli.train.configured_model import (
    input_facts,
    load_weights,
    model_input,
    new_model,
    weights_facts,
)
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.early_stopping import EarlyStopping
from rkkd_cli.train.events import WeightsKind
from rkkd_cli.train.metrics.batch import mean_names
from rkkd_cli.train.metrics.gradients import GRADIENT_MEANS
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.moving_average import MovingAverage
from rkkd_cli.train.profile import stage
from rkkd_cli.train.regions import AnyTaught, RegionLoss
from rkkd_cli.train.rng import IsolatedRng
from rkkd_cli.train.taught_batch import StepOutput, TaughtBatch
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.preprocessing import format_facts
from rkkd_cli.train.teacher.safetensors_files import teacher_bytes
from rkkd_cli.train.teacher.several import Teachers, teacher_of
from rkkd_cli.train.trained_model import TrainedModel


class ArmOnStream:
    """Everything that an arm changes while it trains. Arms share none of it.

    The first weights of the student and of its method's trainable parts, and the arm's random
    generators, depend on the seed only. So all arms of a seed start with the same weights and draw
    the same noise. ``labels`` (N,) are those of the stream's training images.

    ``input`` makes the student's images of those of the stream. ``first_weights`` are those that
    the experiment names, if any.
    """

    def __init__(
        self,
        arm: Arm,
        seed: int,
        teacher: Teachers,
        labels: Tensor,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.name, self.seed, self.experiment = arm.name, seed, arm.experiment
        self.precision, self.process_group = arm.experiment.precision, process_group
        self.task = task_for(arm.experiment)
        self.input = model_input(arm.experiment.student, teacher.input.images)
        own_teacher = teacher_of(arm.experiment, teacher)
        student, self.first_weights = new_student(arm, seed, teacher, self.input)
        hard = self.task.hard_term(arm.experiment.training)
        self.objective = _new_objective(arm, seed, own_teacher, student, self.input, labels, hard)
        # The logits of the zoo's models need all of their parameters.
        self.uses_all = self.objective.uses_logits_only and arm.experiment.student.model in MODELS
        method = self.objective.method
        self.student = method.wrap_student(student).to(teacher.device).train()
        self.is_wrapped = self.student is not student
        of_teachers = target_columns(arm.experiment.teachers)
        own = (*self.objective.method_terms, *hard.others)
        terms = (*mean_names(self.task), *of_teachers, *own)
        self.meters = EpochMeters(terms, self.task.counts_in_training, teacher.device)
        self.diagnostics = EpochMeters(GRADIENT_MEANS, (), teacher.device)
        recipe = arm.experiment.training
        model: nn.Module = self.student
        if method.state_dict():
            model = nn.ModuleDict({"student": self.student, "method": method})
        if self.task.rows_are_regions:
            loss: nn.Module = RegionLoss(model, self.student, self.objective, self.precision)
        else:
            loss = DistillationLoss(
                model,
                self.student,
                self.objective,
                self.precision,
                self.input,
                self.task,
                process_group,
            )
        self.loss = process_group.wrap(loss, arm.experiment.sync_batchnorm, self.uses_all)
        arm_seed, decay = derive_seed(seed, "arm"), recipe.ema_decay
        average = None if decay is None else MovingAverage(self.student, decay, own_teacher.model)
        self.trained = TrainedModel(model, recipe, arm_seed, self.meters, process_group, average)
        self.early_stopping = EarlyStopping(recipe)

    def begin_epoch(self) -> None:
        """Reset the meters."""
        self.meters.reset()
        self.diagnostics.reset()

    def state(self) -> dict[str, Any]:
        """Return the state dict."""
        state = self.trained.state() | {"diagnostics": self.diagnostics.state()}
        return state | {"early_stopping": self.early_stopping.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Load a state dict. Raises ValueError, or what torch raises, where it does not fit."""
        self.trained.load(state)
        self.diagnostics.load(state["diagnostics"])
        self.early_stopping.load(state.get("early_stopping", {}))

    @property
    def average(self) -> Classifier | None:
        """The student with the moving average of its weights, if it has one."""
        if self.trained.moving_average is None:
            return None
        average = self.trained.moving_average.model
        assert isinstance(average, Classifier)
        return average

    def weights_file(
        self, kind: WeightsKind, row: Mapping[str, Any], image_facts: Mapping[str, Any]
    ) -> bytes:
        """Return a safetensors file with all weights that the student infers with.

        They are the moving averages for ``ema``, and for ``best`` if that selected the epoch. The
        metadata say what they are: the model, the images (``image_facts``), and the epoch with its
        accuracy (``row`` of metrics.csv).
        """
        experiment, monitor = self.experiment, self.early_stopping.monitor
        origin = {"arm": self.name, "seed": self.seed, "epoch": row["epoch"]}
        origin |= {} if monitor is None else {"monitor": monitor, "value": row[monitor]}
        student, metric = self.student, self.task.records.main_column
        if kind == "ema" or (kind == "best" and monitor in EMA_MONITORS):
            assert self.average is not None
            student, metric = self.average, self.task.records.ema_column("test")
            origin |= {"ema_decay": experiment.training.ema_decay}
        model = self.objective.method.inference_model(student)
        facts = {"dataset": experiment.dataset.name, **image_facts, **format_facts(self.input)}
        facts[self.task.records.main_column] = row.get(metric)
        facts |= experiment.student.embedding_facts
        if self.is_wrapped:  # these are no weights of a known model
            origin |= {"student": experiment.student.model, "method": experiment.method.name}
        else:
            facts |= {"model": experiment.student.model, "options": experiment.student.options}
        return teacher_bytes(model.state_dict(), facts, origin)

    def origin_facts(self) -> dict[str, Any]:
        """Return what the manifest says of the student's first weights and of its input."""
        weights = {"weights": weights_facts(self.first_weights)} if self.first_weights else {}
        return weights | input_facts(self.input)

    @property
    def members(self) -> "list[ArmOnStream]":
        """The arm itself, as an ArmGroup of one."""
        return [self]

    def set_rates(self, epochs_done: float) -> None:
        """Set the learning rate that the recipe has after ``epochs_done`` epochs."""
        self.trained.set_rate(epochs_done)

    def step(self, taught: AnyTaught) -> StepOutput:
        """Take one optimisation step. The returned outputs (1, B, D) are from before it."""
        with self.trained.rng.active():
            output: StepOutput
            with stage("forward", self.name):
                total, output = self.loss(taught)
            loss = self.process_group.scale_loss(total, taught.batch)
            self.trained.backward_and_step(loss, self.name)
        return output


class DistillationLoss(nn.Module):
    """An arm's student and objective as one module: a batch in, the loss and the outputs out.

    ``model`` is all that is trained: the student, and the method if it has parts of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        student: Classifier,
        objective: Objective,
        precision: str,
        student_input: ModelInput,
        task: Task,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.input, self.task, self.process_group = student_input, task, process_group
        self.model, self.student = model, student
        self.objective, self.precision = objective, precision

    def forward(self, taught: TaughtBatch) -> tuple[Tensor, StepOutput]:
        """Return the loss of the batch, and what is recorded of it.

        The student also sees the strong view of the batch, if the method needs that.
        """
        strong = None
        with autocast(taught.batch.images.device, self.precision):
            student = self._outputs(taught.images_for(self.input))
            if self.objective.method.needs_strong_view:
                strong = self._outputs(taught.images_for(self.input, strong=True))
        student = self.process_group.gather_outputs(student, taught.batch)
        rows, of_strong = self.task.features(student), strong and self.task.features(strong)
        loss = taught.loss(self.objective, rows, of_strong)
        return loss.total, StepOutput(student.logits.detach()[None], [loss.method_terms])

    def _outputs(self, images: Tensor) -> Features:
        if self.objective.method.needs_features:
            return self.student.forward_features(images)
        return logits_only(self.student(images))


def new_student(
    arm: Arm, seed: int, teacher: Teachers, student_input: ModelInput
) -> tuple[Classifier, LoadedWeights | None]:
    """Return the arm's student with its first weights, on the teacher's device.

    They are those of ``seed``, where the experiment names none.
    """
    config, classes, own = arm.experiment.student, teacher.num_classes, student_input.own
    with IsolatedRng(derive_seed(seed, "student"), teacher.device).active():
        student = new_model(config, classes, own)
    loaded = load_weights(student, config, classes, own, teacher.class_names)
    return student.to(teacher.device).to(memory_format=torch.channels_last).train(), loaded


def _new_objective(
    arm: Arm,
    seed: int,
    teacher: Teacher,
    student: Classifier,
    student_input: ModelInput,
    labels: Tensor,
    hard: HardTerm,
) -> Objective:
    """Return the arm's objective; its trainable parts have the first weights of ``seed``."""
    own, theirs = student_input.own, teacher.input.own
    experiment, seen = arm.experiment, (own.channels, own.size, labels, theirs.size)
    pair = ModelPair(student, teacher.model, *seen, experiment.task)
    with IsolatedRng(derive_seed(seed, "method"), teacher.device).active():
        objective = build_objective(experiment.method, experiment.rank, pair, hard)
    objective.method.to(teacher.device).train()
    return objective
