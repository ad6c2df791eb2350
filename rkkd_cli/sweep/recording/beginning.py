"""What a run begins with: its manifest, and the columns of its metrics.csv."""

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.tasks import DETECTOR_TERMS, detector_kind
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.methods import method_terms
from rkkd_cli.records.environment import command_line, environment
from rkkd_cli.records.manifest import RUN_FORMAT, Manifest
from rkkd_cli.records.metrics import columns


def metrics_header(
    experiment: Experiment, datasets: Sequence[Mapping[str, Any]] = ()
) -> tuple[str, ...]:
    """Return the columns of the experiment's metrics.csv.

    ``datasets`` are those of the manifest. The first one, which is read before the file is begun,
    may have validation images of its own.
    """
    arms = [arm.experiment for arm in experiment.resolved_arms]
    has_its_own = any(dataset["val_images"] for dataset in datasets[:1])
    with_validation = has_its_own or any(arm.dataset.val_share > 0 for arm in arms)
    terms = [term for arm in arms for term in method_terms(arm.method)]
    kinds = [detector_kind(arm.student.model) for arm in arms]
    terms += [term for kind in kinds if kind for term in DETECTOR_TERMS[kind]]
    of_teachers = [term for arm in arms for term in target_columns(arm.teachers)]
    return columns(
        with_validation,
        tuple(experiment.vary),
        list(dict.fromkeys(terms)),
        list(dict.fromkeys(of_teachers)),
        with_ema=any(arm.training.ema_decay is not None for arm in arms),
        task=experiment.task_records,
    )


def new_manifest(name: str, device: str) -> Manifest:
    """Return the manifest of a run that begins now in this process."""
    facts = environment()
    facts["versions"]["torch"] = str(torch.__version__)  # with its build
    return Manifest(
        format=RUN_FORMAT,
        run=name,
        id=uuid.uuid4().hex,
        status="running",
        started=utc_now(),
        command=command_line(),
        device=device,
        threads=torch.get_num_threads(),
        process=os.getpid(),
        numbers_version=NUMBERS_VERSION,
        **facts,
    )


def monitors_of(experiment: Experiment) -> dict[str, str]:
    """Return the metric that selects the best epoch of each arm, for arms that select one."""
    monitors = {arm.name: arm.experiment.training.selects_by for arm in experiment.resolved_arms}
    return {arm: monitor for arm, monitor in monitors.items() if monitor is not None}


def utc_now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
