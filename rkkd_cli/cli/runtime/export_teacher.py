"""What ``rkkd teacher export`` does."""

import hashlib
from pathlib import Path

from rkkd_cli.cli.output.console import out
from rkkd_cli.errors import UserError, printable
from rkkd_cli.files import whole_file, write_problem
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.teacher_import import TeacherFile, read_teacher_file, recognise_teacher
from rkkd_cli.train.teacher.safetensors_files import (
    TOLD,
    find_teacher,
    known_images,
    teacher_bytes,
    told,
)

SUFFIX = ".safetensors"


def export_teacher(name: str, to: Path | None, force: bool) -> None:
    """Write the teacher as a safetensors file, and print which."""
    found = find_teacher(name, cache_directory())
    weights = read_teacher_file(found.path)
    file = recognise_teacher(weights, found.facts.get("model"), known_images(found.facts))
    recorded = {key: told(file.weights.metadata, key) for key in TOLD}
    facts = recorded | found.facts | _read(file)
    if facts["sha256"] is None:
        facts["sha256"] = file.sha256
    path = _target(to, facts["model"], facts["dataset"])
    if path.exists() and not force:
        raise UserError(f"{path} exists; give another name with --to, or --force to replace it")
    content = teacher_bytes(file.model.state, facts)
    with whole_file(path) as output:
        output.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    measured = (
        f", {float(facts['test_acc']):.2f} % on {facts['dataset']}" if _measured(facts) else ""
    )
    out.print(
        printable(
            f"{path}: {facts['model']}, {facts['classes']} classes{measured}; sha256 {sha256}"
        ),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _read(file: TeacherFile) -> dict[str, object]:
    """Return what the weights themselves tell."""
    found = file.model
    return {"model": found.model, "classes": found.classes, "channels": found.channels}


def _measured(facts: dict[str, object]) -> bool:
    try:
        float(str(facts["test_acc"]))
    except ValueError:  # a file may claim anything
        facts["test_acc"] = None
    return facts["test_acc"] is not None


def _target(to: Path | None, model: object, dataset: object) -> Path:
    """Return the file to write. Raises UserError where nothing can be written."""
    plain = "".join(c for c in str(dataset or "") if c.isalnum() or c in "_-")
    called = str(model).replace(":", "_")  # which some systems allow in no name
    default = f"{called}_{plain}{SUFFIX}" if plain else f"{called}{SUFFIX}"
    path = Path(default) if to is None else to / default if to.is_dir() else to
    if path.suffix != SUFFIX:
        raise UserError(f"{path} must end in {SUFFIX}: that is the format it is written in")
    problem = write_problem(path.parent)
    if not path.parent.is_dir():
        raise UserError(f"no folder {path.parent} to write {path.name} into")
    if problem:
        raise UserError(f"cannot write {path}: {problem}")
    return path
