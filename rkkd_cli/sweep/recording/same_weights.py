"""A run goes on only with the first weights that it began with."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.errors import UserError
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.train.configured_model import weights_sha256


def check_weights(manifest: Manifest, experiment: Experiment) -> None:
    """Raise UserError if a file of first weights is not the one that the manifest records.

    A teacher that was used as it is need not be checked here: its tensors are compared anyway.
    """
    now: dict[ModelConfig, str | None] = {}
    for config, recorded in _recorded_weights(manifest, experiment):
        if config not in now:
            now[config] = weights_sha256(config)
        if recorded.isdisjoint({now[config]}):
            raise UserError(
                f"the weights {config.weights} of {config.model} are not those that the run began "
                "with; put them back, or start a new run"
            )


def _recorded_weights(
    manifest: Manifest, experiment: Experiment
) -> Iterator[tuple[ModelConfig, set[str]]]:
    """Yield the models whose first weights the manifest records, with the hashes there."""
    students = cast(Mapping[str, Mapping[str, Any]], manifest.students)
    for arm in experiment.resolved_arms:
        facts = students.get(arm.name, {})
        if "weights" in facts and arm.experiment.student.weights is not None:
            yield arm.experiment.student, {facts["weights"]["sha256"]}
    arms = [arm.experiment for arm in experiment.resolved_arms]
    teachers = dict.fromkeys(one for arm in arms for one in arm.named_teachers.items())
    for name, config in teachers:
        trained = [
            facts["weights"]["sha256"]
            for facts in cast(list[Mapping[str, Any]], manifest.teachers)
            if facts.get("name", "teacher") == name
            and facts["model"] == config.model
            and facts["source"] != "checkpoint"
            and "weights" in facts
        ]
        if trained and config.weights is not None:
            yield config, set(trained)
