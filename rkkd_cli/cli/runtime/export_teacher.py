"""``rkkd teacher export``: write a teacher as a safetensors file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rkkd_cli.cli.output.console import out, print_line
from rkkd_cli.cli.runtime.target import check_target
from rkkd_cli.config.tasks import detector_kind, task_of
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file, files_sha256
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.teacher_import import TeacherFile, recognise_teacher
from rkkd_cli.train.teacher.safetensors_files import (
    METADATA_NAMES,
    find_teacher,
    images_in_facts,
    metadata_fact,
    options_in_facts,
    teacher_bytes,
)

SUFFIX = ".safetensors"


def export_teacher(name: str, to: Path | None, force: bool) -> None:
    """Write the teacher as a safetensors file, and print the file and what it holds."""
    teacher = find_teacher(name, cache_directory())
    weights = read_weights(teacher.path)
    recorded = {key: metadata_fact(weights.metadata, key) for key in METADATA_NAMES}
    facts = recorded | teacher.facts
    state: Mapping[str, Tensor] = weights.tensors
    if detector_kind(facts["model"] or "") is None:
        file = _recognised(weights, teacher.facts)
        state, classes = file.model.state, facts["classes"]
        facts |= _facts_of_weights(file)
        if facts.get("embedding"):  # the weights show its dimensions, not the classes
            facts["classes"] = classes
    if facts["sha256"] is None:
        facts["sha256"] = files_sha256(weights.files)
    path = _target(to, facts["model"], facts["dataset"])
    check_target(path, force)
    content = teacher_bytes(state, facts)
    with atomic_file(path) as output:
        output.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    task = task_of(key for key, value in facts.items() if value is not None)
    level, prefix = _as_float(facts.get(task.main_column)), task.value_prefix
    measured = "" if level is None else f", {prefix}{level:.2f} % on {facts['dataset']}"
    embedding = facts.get("embedding")
    ends = f"an embedding of {embedding}" if embedding else f"{facts['classes']} classes"
    description = f"{facts['model']}, {ends}{measured}"
    print_line(out, f"{path}: {description}; sha256 {sha256}")


def _recognised(weights: CheckpointWeights, facts: Mapping[str, Any]) -> TeacherFile:
    images, options = images_in_facts(facts), options_in_facts(facts)
    return recognise_teacher(weights, facts.get("model"), images, options)


def _facts_of_weights(file: TeacherFile) -> dict[str, object]:
    """Return the facts that the weights themselves show."""
    model = file.model
    facts = {"model": model.model, "classes": model.classes, "channels": model.channels}
    return facts | {"options": dict(model.options) or None}


def _as_float(value: object) -> float | None:
    """Return a fact of a file as a number, or None if it is none: a file may state anything."""
    try:
        return float(str(value))
    except ValueError:
        return None


def _target(to: Path | None, model: object, dataset: object) -> Path:
    """Return the file to write. Raises UserError for one of another format."""
    plain_dataset = "".join(c for c in str(dataset or "") if c.isalnum() or c in "_-")
    stem = str(model).replace(":", "_")  # Windows allows no colon in a file name
    default = f"{stem}_{plain_dataset}{SUFFIX}" if plain_dataset else f"{stem}{SUFFIX}"
    path = Path(default) if to is None else to / default if to.is_dir() else to
    if path.suffix != SUFFIX:
        raise UserError(f"{path} must end in {SUFFIX}: that is the format it is written in")
    return path
