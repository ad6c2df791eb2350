"""``--teacher-weights FILE`` without ``--teacher``: the file says which model it holds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, overridden_keys

MODEL_KEYS = ("teacher.model", "teacher.options")


def load_with_teacher(
    load: Callable[[Sequence[Override]], Experiment], overrides: Sequence[Override]
) -> Experiment:
    """Return the experiment with the overrides, and the teacher whose weights a file holds.

    A preset's teacher stays if the file fits it, and one that was typed, or its options, stays in
    any case.
    Raises UserError.
    """
    experiment = load(overrides)
    typed = overridden_keys(overrides)
    weights = experiment.teacher.weights if "teacher.weights" in typed else None
    own = [key for key in (*typed, *experiment.vary) if key.startswith(MODEL_KEYS)]
    if weights is None or own:
        return experiment
    if not Path(weights).expanduser().is_file():  # a library's name of the weights, or a mistake
        return experiment
    from rkkd_cli.sweep.teacher_import import model_in_checkpoint

    held = model_in_checkpoint(experiment)
    if (held.model, held.options) == (experiment.teacher.model, experiment.teacher.given_options):
        return experiment
    return load([*overrides, *as_overrides(held.model, held.options)])


def as_overrides(model: str, options: Mapping[str, Any]) -> list[Override]:
    """Return the overrides that choose the teacher's model and its options."""
    chosen = dict(options) if options else "none"
    return [Override("teacher.model", model), Override("teacher.options", chosen)]
