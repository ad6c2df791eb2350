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
    known = {*overridden_keys(overrides), *experiment.vary}
    found: list[Override] = []
    for section, name in zip(experiment.teacher_sections, experiment.named_teachers, strict=True):
        alone = experiment.taught_by(name)
        is_given = f"{section}.checkpoint" in known and alone.teacher.checkpoint is not None
        if not is_given or f"{section}.model" in known:
            continue
        from rkkd_cli.sweep.teacher_import import model_in_checkpoint

        model = model_in_checkpoint(alone)
        if model != alone.teacher.model:
            found.append(Override(f"{section}.model", model))
    return load([*overrides, *found]) if found else experiment
