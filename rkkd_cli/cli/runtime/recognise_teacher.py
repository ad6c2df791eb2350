"""``--teacher-checkpoint`` without ``--teacher``: the file says which model it holds."""

from collections.abc import Callable, Sequence

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, overridden_keys


def load_with_teacher(
    load: Callable[[Sequence[Override]], Experiment], overrides: Sequence[Override]
) -> Experiment:
    """Return the experiment with the overrides, and the teacher that its checkpoint holds.

    A preset's teacher stays if the checkpoint fits it, and one that was typed stays in any case.
    Raises UserError.
    """
    experiment = load(overrides)
    typed = overridden_keys(overrides)
    is_given = "teacher.checkpoint" in typed and experiment.teacher.checkpoint is not None
    if not is_given or "teacher.model" in typed or "teacher.model" in experiment.vary:
        return experiment
    from rkkd_cli.sweep.teacher_import import model_in_checkpoint

    model = model_in_checkpoint(experiment)
    if model == experiment.teacher.model:
        return experiment
    return load([*overrides, Override("teacher.model", model)])
