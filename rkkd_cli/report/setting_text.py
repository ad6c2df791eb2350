"""The setting of a run as text: objectives, students, recipe, classes, duration."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.config.training import StudentTrainingConfig
from rkkd_cli.config.value_lists import value_text
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.report.run_text import begins_text, dataset_text, teacher_text

MAX_ARMS = 8  # with a line of their own
MAX_ARMS_IN_LIST = 3
MAX_CLASSES = 12


def setting_lines(experiment: Experiment | None, manifest: Manifest) -> list[str]:
    """Return dataset, classes, teacher, students, recipes, objectives and duration of a run."""
    duration = duration_text(manifest)
    students = student_lines(experiment, manifest) if experiment else []
    recipes = recipe_lines(experiment) if experiment else []
    base = base_text(experiment) if experiment else None
    return [
        *([f"based on {base}"] if base else []),
        *(f"dataset {dataset_text(facts)}" for facts in manifest.datasets),
        *(f"classes {text}" for facts in manifest.datasets if (text := classes_text(facts))),
        *(f"teacher {teacher_text(facts)}" for facts in manifest.teachers),
        *(f"student {text}" for text in students),
        *(f"training {text}" for text in recipes),
        *(f"objective {text}" for text in objective_lines(manifest.objectives)),
        *([f"duration {duration}"] if duration else []),
    ]


def base_text(experiment: Experiment) -> str | None:
    """Return what the experiment is based on, None if its title says so."""
    base = experiment.based_on
    return base if base and base not in experiment.title else None


def objective_lines(objectives: Mapping[str, str]) -> list[str]:
    """Return ``kd: 0.1·ce + 0.9·kl`` for each of the first arms, and how many more there are."""
    lines = [f"{arm}: {objective}" for arm, objective in objectives.items()]
    more = [f"and {len(lines) - MAX_ARMS} more arms"] if len(lines) > MAX_ARMS else []
    return [*lines[:MAX_ARMS], *more]


def objectives_text(manifest: Manifest) -> str:
    """Return the objectives of a few arms, or the number of many."""
    objectives = manifest.objectives
    if len(objectives) > MAX_ARMS_IN_LIST:
        return f"{len(objectives)} arms"
    return "; ".join(objective_lines(objectives))


def student_lines(experiment: Experiment, manifest: Manifest) -> list[str]:
    """Return each student with its parameters and multiply-adds, and its arms if there are more."""
    arms_of: dict[str, list[str]] = {}
    for arm in experiment.resolved_arms:
        text = arm.experiment.student.described
        if cost := manifest.students.get(arm.name):
            text += f": {cost['parameters']:,} parameters"
            if cost["projector_parameters"]:
                text += f" and {cost['projector_parameters']:,} of its projector"
            text += f", {_count_text(cost['macs'])} multiply-adds an image{begins_text(cost)}"
        arms_of.setdefault(text, []).append(arm.name)
    if len(arms_of) == 1:
        return list(arms_of)
    return [f"{text} ({_list_arms(arms)})" for text, arms in arms_of.items()]


def _count_text(count: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:,.1f} {word}"
    return f"{count:,}"


def recipe_lines(experiment: Experiment) -> list[str]:
    """Return each recipe of the students, and its arms if there are more."""
    arms_of: dict[str, list[str]] = {}
    for arm in experiment.resolved_arms:
        arms_of.setdefault(recipe_text(arm.experiment.training), []).append(arm.name)
    if len(arms_of) == 1:
        return list(arms_of)
    lines = [f"{text} ({_list_arms(arms)})" for text, arms in arms_of.items()]
    more = [f"and {len(lines) - MAX_ARMS} more recipes"] if len(lines) > MAX_ARMS else []
    return [*lines[:MAX_ARMS], *more]


def _list_arms(arms: list[str]) -> str:
    return ", ".join(arms) if len(arms) <= MAX_ARMS else f"{len(arms)} arms"


def recipe_text(recipe: TrainingConfig) -> str:
    """Return a recipe: epochs, batch size, optimiser, learning rate, weight decay."""
    optimizer = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[recipe.optimizer]
    if recipe.optimizer == "sgd":
        nesterov = "Nesterov " if recipe.nesterov else ""
        optimizer += f" ({nesterov}momentum {recipe.momentum:g})"
    decay = "" if recipe.norm_bias_decay else ", none on norms and biases"
    parts = [
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)}",
        _batches_text(recipe),
        optimizer,
        f"learning rate {recipe.lr:g}{_schedule_text(recipe)}",
        f"weight decay {recipe.weight_decay:g}{decay}",
    ]
    if recipe.clip_grad_norm is not None:
        parts.append(f"gradients clipped to norm {recipe.clip_grad_norm:g}")
    if recipe.warmup_epochs:
        start = f" from {recipe.warmup_lr:g}" if recipe.warmup_lr else ""
        plural = "s" * (recipe.warmup_epochs != 1)
        parts.append(f"warm-up{start} over {recipe.warmup_epochs:g} epoch{plural}")
    if recipe.label_smoothing:
        parts.append(f"label smoothing {recipe.label_smoothing:g}")
    if isinstance(recipe, StudentTrainingConfig):
        parts += _student_parts(recipe)
    return ", ".join(parts)


def _batches_text(recipe: TrainingConfig) -> str:
    text = f"batch size {recipe.batch_size}"
    batches = recipe.batches_per_epoch
    if recipe.per_class is None:
        return text if batches is None else f"{text}, {batches:,} batches an epoch"
    each = "" if batches is None else f", {batches:,} an epoch"
    return f"{text} of {recipe.batch_size // recipe.per_class} classes × {recipe.per_class}{each}"


def _student_parts(recipe: StudentTrainingConfig) -> list[str]:
    """Return what only students have: moving averages, and the selection of an epoch."""
    decay = recipe.ema_decay
    parts = [] if decay is None else [f"moving average of the weights with decay {decay:g}"]
    if recipe.selects_by is None:
        return parts
    patience = f"at most {recipe.patience} epochs without a better one, " if recipe.patience else ""
    return [*parts, f"{patience}weights of the best {recipe.selects_by} kept"]


def _schedule_text(recipe: TrainingConfig) -> str:
    if recipe.schedule == "cosine":
        return f", falling to {recipe.min_lr:g} along a cosine"
    drops = Counter(epoch for epoch in recipe.milestone_epochs if epoch < recipe.epochs)
    if recipe.schedule == "constant" or not drops:
        return ", constant"
    epochs_of: dict[float, list[str]] = {}
    for epoch, count in drops.items():  # short recipes have several at one epoch
        epochs_of.setdefault(recipe.gamma**count, []).append(f"{epoch:g}")
    parts = [f"× {factor:g} after epoch {', '.join(e)}" for factor, e in epochs_of.items()]
    return f", {' and '.join(parts)}"


def classes_text(facts: Mapping[str, Any]) -> str | None:
    """Return the names of a dataset's classes, or None for a run that recorded none."""
    names = facts.get("class_names")
    if not names:
        return None
    more = f", and {len(names) - MAX_CLASSES} more" if len(names) > MAX_CLASSES else ""
    return f"{', '.join(map(str, names[:MAX_CLASSES]))}{more}"


def duration_text(manifest: Manifest) -> str | None:
    """Return how long a run took that has ended, with its interruptions, or None."""
    if manifest.ended is None:
        return None
    begun, ended = (datetime.fromisoformat(text) for text in (manifest.started, manifest.ended))
    text = str(timedelta(seconds=round((ended - begun).total_seconds())))
    resumed = len(manifest.resumed)
    if not resumed:
        return text
    return f"{text} from start to end, resumed {resumed} time{'s' * (resumed > 1)} in between"


def join_values(values: Iterable[object]) -> str:
    """Return values as a list."""
    return ", ".join(map(value_text, values))
