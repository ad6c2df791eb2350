"""Reads a trained student back from its run: its network, its weights and what they are for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field, Json, ValidationError
from torch import nn

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.data.model_input import ImageFormat, ModelInput
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.methods import Method, ModelPair, build_objective
from rkkd_cli.methods import method_class as class_of_method
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.models.checkpoint.load import fit_weights, load_fitted
from rkkd_cli.models.external.wrapper import WrappedModel
from rkkd_cli.records.manifest import ENDED_STATUSES
from rkkd_cli.records.run_directory import RunDirectory, open_run
from rkkd_cli.sweep.recording.own_code import changes, copies_of, read_code
from rkkd_cli.train.configured_model import model_input, new_model
from rkkd_cli.train.events import WeightsKind
from rkkd_cli.train.teacher.safetensors_files import METADATA_PREFIX

SIZE = "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$"


class StudentFacts(BaseModel, frozen=True):
    """What a weights file says of its images.

    Pixels in [0, 1] are normalised by ``mean`` and ``std``, each with a value for every channel.
    ``image_size`` is height and width as ``32x32``; ``resampled_from``, if it is given, is that of
    the images that are resampled to it. ``fit`` says how images of another shape are made to fit:
    see :class:`rkkd_cli.data.streaming.crops.Crop`.
    """

    classes: int = Field(ge=1, le=10**6)
    channels: int = Field(ge=1, le=10**3)
    image_size: str = Field(pattern=SIZE)
    resampled_from: str | None = Field(default=None, pattern=SIZE)
    mean: Json[tuple[float, ...]]
    std: Json[tuple[float, ...]]
    class_names: Json[tuple[str, ...]]
    fit: Literal["held_out", "crop", "squash", "pad"] = "crop"
    dataset: str = ""
    test_acc: float | None = None
    test_ap: float | None = None

    @property
    def images(self) -> "StudentFacts":
        """What all students on the same images have in common."""
        return self.model_copy(update={"test_acc": None, "test_ap": None})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the student's images."""
        return _size(self.image_size)

    @property
    def input(self) -> ModelInput:
        """How the student takes the images of its dataset, in its own normalisation."""
        own = ImageFormat(self.size, self.mean, self.std)
        return ModelInput(own._replace(size=_size(self.resampled_from or self.image_size)), own)


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


@dataclass(frozen=True)
class Student:
    """A trained student: its module, in eval mode on the CPU, and what its file says.

    ``seeds`` are those of the run with such a file. ``metadata`` are those of the file, without the
    prefix ``rkkd.``.
    """

    arm: str
    seed: int
    seeds: tuple[int, ...]
    path: Path
    module: nn.Module
    experiment: Experiment
    facts: StudentFacts
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        """The arm and the seed, for the user."""
        return f"{self.arm}, seed {self.seed}"


def read_student(
    run: RunDirectory, arm: str, seed: int | None = None, kind: WeightsKind = "final"
) -> Student:
    """Return an arm's student with its ``final``, ``best`` or averaged (``ema``) weights.

    Without a seed it is the first one of the run that has them. Raises UserError for an arm or a
    seed that the run does not have, and for weights that are missing or damaged.
    """
    experiment = arm_experiment(run, arm)
    seeds = experiment.seeds
    if seed is not None and seed not in seeds:
        raise unknown_name("seed", str(seed), map(str, seeds))
    kept = [one for one in seeds if run.weights(kind, arm, one).is_file()]
    if not kept or seed not in (None, *kept):
        raise _missing_weights(run, arm, seed, kind)
    seed = kept[0] if seed is None else seed
    path = run.weights(kind, arm, seed)
    weights = read_weights(path)
    metadata = {
        key.removeprefix(METADATA_PREFIX): text
        for key, text in weights.metadata.items()
        if key.startswith(METADATA_PREFIX)
    }
    facts = _read_facts(path, metadata)
    module = build_student(experiment, facts)
    load_fitted(module, fit_weights(weights, module.state_dict()).state)
    return Student(
        arm, seed, tuple(kept), path, unwrapped(module).eval(), experiment, facts, metadata
    )


def read_students(
    run: RunDirectory, arms: Sequence[str] | None, seed: int | None, kind: WeightsKind
) -> list[Student]:
    """Return the students of the arms and the seed, or of all. Raises UserError."""
    experiment = read_experiment(run.experiment)
    seeds = experiment.seeds if seed is None else (seed,)
    cells = [(arm, one) for arm in arms or experiment.arms for one in seeds]
    return [read_student(run, arm, one, kind) for arm, one in cells]


def open_trained(run: str, out: Path) -> RunDirectory:
    """Return the run. Raises UserError, also if the user's own code in it has changed since."""
    opened = open_run(run, out)
    check_code(opened)
    return opened


def check_code(run: RunDirectory) -> None:
    """Raise UserError if code of the user's that a student needs has changed since the run."""
    kept = run.read_manifest().code
    try:
        changed = changes(read_code(read_experiment(run.experiment)), kept)
    except UserError:  # for code that no student needs, perhaps
        return
    if changed:
        raise UserError(
            f"{', '.join(changed)} {'have' if len(changed) > 1 else 'has'} changed since run "
            f"{run.name!r} was trained, and its students would give other outputs; put back "
            f"{copies_of(run, changed, kept)}"
        )


def arm_experiment(run: RunDirectory, arm: str) -> Experiment:
    """Return the experiment of one of the run's arms. Raises UserError if there is no such arm."""
    arms = {one.name: one.experiment for one in read_experiment(run.experiment).resolved_arms}
    if arm not in arms:
        raise unknown_name("arm", arm, arms)
    return arms[arm]


def check_classifiers(students: Sequence[Student]) -> None:
    """Raise UserError for a student that predicts no classes of images."""
    for student in students:
        if student.experiment.task == "embedding":
            raise UserError(
                f"{student.name} ends in an embedding and predicts no classes; its retrieval "
                "metrics are in metrics.csv, and `rkkd export` writes its network"
            )


def build_student(experiment: Experiment, facts: StudentFacts) -> nn.Module:
    """Return the network that an arm's student infers with; its weights are random.

    For SimKD it has the projector and the teacher's classifier.
    """
    own = facts.input.own
    student = new_model(experiment.student, facts.classes, own)
    if class_of_method(experiment.method.name).wrap_student is Method.wrap_student:
        return student
    # SimKD keeps the size of the teacher's final map, and that may be of other images.
    theirs = model_input(experiment.teacher, facts.input.images).own
    teacher = new_model(experiment.teacher, facts.classes, theirs)
    no_labels = torch.zeros(1, dtype=torch.int64)
    pair = ModelPair(student, teacher, facts.channels, facts.size, no_labels, theirs.size)
    method = build_objective(experiment.method, experiment.rank, pair).method
    return method.inference_model(method.wrap_student(student))


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the library's own module of a model that rkkd has wrapped: it gives the logits."""
    return module.library if isinstance(module, WrappedModel) else module


def _read_facts(path: Path, metadata: Mapping[str, Any]) -> StudentFacts:
    try:
        facts = StudentFacts.model_validate(metadata)
    except ValidationError as error:
        keys = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
        raise UserError(f"{path} does not say what it is for: {keys} missing or damaged") from None
    lengths = {len(facts.mean), len(facts.std)}
    if lengths != {facts.channels} or len(facts.class_names) != facts.classes:
        raise UserError(f"{path} is damaged: its channels or classes and their facts differ")
    return facts


def _missing_weights(run: RunDirectory, arm: str, seed: int | None, kind: str) -> UserError:
    """Return the error for weights that the run does not have, with the reason."""
    which = f"arm {arm}" + ("" if seed is None else f", seed {seed}") + f" of run {run.name!r}"
    if kind == "ema" and arm_experiment(run, arm).training.ema_decay is None:
        return UserError(
            f"{which} has no moving averages of its weights: it was trained without "
            "training.ema_decay; leave out --ema for the weights themselves"
        )
    if kind == "best":
        return UserError(
            f"{which} has no best weights: no --monitor or --patience has selected an epoch; leave "
            "out --best for the final ones"
        )
    manifest = run.read_manifest()
    status = run.status(manifest)
    if any(diverged == arm and seed in (None, its) for diverged, its in manifest.diverged):
        return UserError(f"{which} has no final weights: it diverged (`rkkd show {run.handle}`)")
    if status in ENDED_STATUSES:
        return UserError(
            f"{which} has no final weights: an earlier version of rkkd, which kept none, or a hand "
            f"that removed them; `rkkd run {run.experiment}` trains them again"
        )
    way = "wait for its end" if status == "running" else f"`rkkd resume {run.handle}` trains on"
    return UserError(f"{which} has no final weights yet: the run is {status}; {way}")
