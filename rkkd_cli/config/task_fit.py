"""What of an experiment does not fit its task."""

from typing import TYPE_CHECKING

from rkkd_cli.config.methods import METHODS, methods_for

if TYPE_CHECKING:
    from rkkd_cli.config.experiment import Experiment


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
    if task == "classification":
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
    recipes = [experiment.training, *(one.training for one in experiment.named_teachers.values())]
    if any(recipe is not None and recipe.label_smoothing for recipe in recipes):
        return "label_smoothing is of classes; leave it out for the task embedding"
    return None
