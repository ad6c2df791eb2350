"""``--teacher-weights FILE`` without ``--teacher``: the file says which model it holds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, overridden_keys


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
    found: list[Override] = []
    for section, name in zip(experiment.teacher_sections, experiment.named_teachers, strict=True):
        alone = experiment.taught_by(name)
        weights = alone.teacher.weights if f"{section}.weights" in typed else None
        model_keys = f"{section}.model", f"{section}.options"
        own = [key for key in (*typed, *experiment.vary) if key.startswith(model_keys)]
        if weights is None or own:
            continue
        if not Path(weights).expanduser().is_file():  # a library's name, or a mistake
            continue
        from rkkd_cli.sweep.teacher_import import model_in_checkpoint

        model, options = model_in_checkpoint(alone)
        if (model, options) != (alone.teacher.model, alone.teacher.given_options):
            found += as_overrides(model, options, section)
    return load([*overrides, *found]) if found else experiment


def as_overrides(
    model: str, options: Mapping[str, Any], section: str = "teacher"
) -> list[Override]:
    """Return the overrides that choose a teacher's model and its options."""
    chosen = dict(options) if options else "none"
    return [Override(f"{section}.model", model), Override(f"{section}.options", chosen)]
