"""``--teacher-weights FILE`` without ``--teacher``: the file says which model it holds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, overridden_keys


def load_with_teacher(
    load: Callable[[Sequence[Override]], Experiment], overrides: Sequence[Override]
) -> Experiment:
    """Return the experiment with the overrides, and the teacher whose weights a file holds.

    A preset's teacher stays if the file fits it, and one that was typed stays in any case.
    Raises UserError.
    """
    experiment = load(overrides)
    typed = overridden_keys(overrides)
    weights = experiment.teacher.weights if "teacher.weights" in typed else None
    if weights is None or "teacher.model" in typed or "teacher.model" in experiment.vary:
        return experiment
    if not Path(weights).expanduser().is_file():  # a library's name of the weights, or a mistake
        return experiment
    from rkkd_cli.sweep.teacher_import import model_in_checkpoint

    model = model_in_checkpoint(experiment)
    if model == experiment.teacher.model:
        return experiment
    return load([*overrides, Override("teacher.model", model)])
