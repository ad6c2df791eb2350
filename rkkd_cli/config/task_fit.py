"""What of an experiment does not fit its task."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rkkd_cli.config.methods import METHODS, methods_for
from rkkd_cli.config.names import MODELS
from rkkd_cli.config.tasks import DETECTOR_TERMS, detector_kind
from rkkd_cli.errors import nearest

LIBRARIES = ("torchvision", "timm")

if TYPE_CHECKING:
    from rkkd_cli.config.experiment import Experiment
    from rkkd_cli.config.models import ModelConfig
    from rkkd_cli.config.training import TrainingConfig


def task_problem(experiment: "Experiment") -> str | None:
    """Return what of an experiment does not fit its task, or None."""
    models = {"student": experiment.student, **experiment.teacher_sections}
    method, task = experiment.method.name, experiment.task
    tasks = METHODS[method].tasks if method in METHODS else (task,)
    if task not in tasks:
        fitting = ", ".join(methods_for(task))
        return (
            f"method.name = {method!r} is for the task {tasks[0]}; for {task} there are {fitting}"
        )
    problem = (
        _detectors_problem(experiment, models)
        or _background_problem(experiment)
        or _setting_of_detectors(experiment)
    )
    if problem is not None:
        return problem
    if task != "detection" and (problem := _shuffled_batches_problem(experiment)) is not None:
        return problem
    if task != "embedding":
        for section, model in models.items():
            for key in ("embedding", "normalize"):
                if getattr(model, key):
                    return f"{section}.{key} is of the task embedding; set task = 'embedding'"
        return None
    for section, model in models.items():
        if model.embedding is None:
            return f"task = 'embedding' needs {section}.embedding, its dimensions, such as 64"
    if experiment.rank.over != "classes":
        return (
            f"rank.over = {experiment.rank.over!r} ranks the images by each class, and embeddings "
            "have no classes: their rows rank images already; leave it out"
        )
    if experiment.dataset.mixup_alpha or experiment.dataset.cutmix_alpha:
        return "images mixed of two classes have no neighbours of their class; leave mixing out"
    if experiment.cache_teacher != "off":
        return "cache_teacher keeps logits of classes; leave it out for the task embedding"
    if any(recipe.label_smoothing for recipe in _recipes(experiment).values()):
        return "label_smoothing is of classes; leave it out for the task embedding"
    return None


def _recipes(experiment: "Experiment") -> "dict[str, TrainingConfig]":
    """Return the recipes of the students and of each teacher that has one, by their sections."""
    teachers = {
        f"{section}.training": one.training
        for section, one in experiment.teacher_sections.items()
        if one.training is not None
    }
    return {"training": experiment.training, **teachers}


def _shuffled_batches_problem(experiment: "Experiment") -> str | None:
    """Return which recipe counts the batches of images that have one class each, or None."""
    for section, recipe in _recipes(experiment).items():
        if recipe.per_class is None and recipe.batches_per_epoch is not None:
            return (
                f"{section}.batches_per_epoch = {recipe.batches_per_epoch} counts batches that are "
                "drawn by class; set per_class too, or leave it out"
            )
    return None


def _background_problem(experiment: "Experiment") -> str | None:
    """Return why the background cannot be left out of the ranking, or None."""
    kind = detector_kind(experiment.student.model) if experiment.task == "detection" else None
    if experiment.rank.background or kind == "fasterrcnn":
        return None
    has_none = f"{kind} has no class for it" if kind else "only the regions of detectors have one"
    return f"rank.background = false leaves out the background, and {has_none}; leave it out"


def _detectors_problem(experiment: "Experiment", models: "Mapping[str, ModelConfig]") -> str | None:
    """Return what a detector is trained with that it cannot be, or None."""
    kinds = {section: detector_kind(model.model) for section, model in models.items()}
    if experiment.task != "detection":
        section = next((section for section, kind in kinds.items() if kind is not None), None)
        if section is None:
            return None
        model = models[section].model
        return f"{section}.model = {model!r} is a detector; set task = 'detection'"
    for section, kind in kinds.items():
        if kind is None:
            model = models[section].model
            return (
                f"task = 'detection' needs a detector, and {section}.model = {model!r} is none; "
                f"{_detector_name(model)}"
            )
    if len(set(kinds.values())) > 1:
        return (
            "student and teacher are compared at the same places, so they must be detectors of one "
            f"kind, not {' and '.join(dict.fromkeys(map(str, kinds.values())))}"
        )
    if experiment.teachers:
        return "several teachers have regions of their own; give one teacher for detection"
    if experiment.rank.over != "classes":
        return (
            f"rank.over = {experiment.rank.over!r} ranks images, and the rows of detection are "
            "regions; leave it out"
        )
    for role, config in models.items():
        for own in ("image_size", "mean", "std"):
            if getattr(config, own) is not None:
                return (
                    f"{role}.{own} is of a model of classes: detectors see the same images; set "
                    "dataset.min_size, dataset.mean or dataset.std for both"
                )
    of_images = {
        **{f"dataset.{key}": True for key in experiment.dataset.of_classes},
        "cache_teacher": experiment.cache_teacher != "off",
        "cuda_graph": experiment.cuda_graph,
        "stacked": bool(experiment.stacked),
    }
    for section, recipe in _recipes(experiment).items():
        of_images[f"{section}.label_smoothing"] = bool(recipe.label_smoothing)
        of_images[f"{section}.per_class"] = recipe.per_class is not None
    key = next((key for key, is_set in of_images.items() if is_set), None)
    sized = "; set dataset.min_size" if key == "dataset.image_size" else ""
    return key and f"{key} does not work with detectors; leave it out{sized}"


def _detector_name(model: str) -> str:
    """Return what to name instead of a model that is no detector."""
    kind, colon, backbone = model.partition(":")
    if colon and (close := nearest(kind, DETECTOR_TERMS)) and kind not in LIBRARIES:
        return f"did you mean {close}:{backbone}?"
    if model in MODELS or colon:
        return f"name it fasterrcnn:{model}, or another of {', '.join(DETECTOR_TERMS)}"
    return f"name one as {', '.join(f'{kind}:BACKBONE' for kind in DETECTOR_TERMS)}"


def _setting_of_detectors(experiment: "Experiment") -> str | None:
    """Return what is set that only detectors have, or None."""
    if experiment.task == "detection":
        return None
    dataset, usual = experiment.dataset, type(experiment.dataset).model_fields["max_size"].default
    of_detectors = {
        "detection.proposals": experiment.detection.proposals != "student",
        "dataset.min_size": dataset.min_size is not None,
        "dataset.max_size": dataset.max_size != usual,
    }
    key = next((key for key, is_set in of_detectors.items() if is_set), None)
    return key and f"{key} is of the task detection; leave it out, or set task = 'detection'"
