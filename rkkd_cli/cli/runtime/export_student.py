"""``rkkd export``: write a trained student to a file."""

import hashlib
from pathlib import Path

from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.runtime.target import check_target
from rkkd_cli.config.tasks import CLASSIFICATION, DETECTION
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.students.export import EXPORTERS, INPUT, OUTPUT
from rkkd_cli.sweep.students.student import Student, read_student
from rkkd_cli.train.events import WeightsKind


def export_student(
    run: RunDirectory, arm: str, seed: int | None, kind: WeightsKind, to: Path | None, force: bool
) -> None:
    """Write an arm's student in the format that the file's end says; print what it holds."""
    suffix = ".safetensors" if to is None or to.is_dir() else to.suffix
    if suffix not in EXPORTERS:
        raise UserError(f"--to {to}: a file ends in {', '.join(EXPORTERS)}")
    student = read_student(run, arm, seed, kind)
    default = f"{arm}-seed{student.seed}{suffix}"
    path = Path(default) if to is None else to / default if to.is_dir() else to
    check_target(path, force)
    exported = EXPORTERS[suffix](student)
    with atomic_file(path) as file:
        file.write(exported.content)
    sha256 = hashlib.sha256(exported.content).hexdigest()
    print_line(out, f"{path}: {_description(student)}; sha256 {sha256}")
    if exported.difference is not None:
        print_line(
            out,
            f"its {OUTPUT} are the network's on random images (largest difference "
            f"{exported.difference:.1g}); its input, {INPUT}, is (N, {student.facts.channels}, "
            f"{student.facts.size[0]}, {student.facts.size[1]}) float32: "
            "(pixels / 255 − mean) / std",
        )
    others = [one for one in student.seeds if one != student.seed]
    if seed is None and others:
        listed = ", ".join(map(str, others))
        print_line(err, f"rkkd: this is seed {student.seed}; --seed takes {listed} too")


def _description(student: Student) -> str:
    facts, metadata = student.facts, student.metadata
    levels = {CLASSIFICATION: facts.test_acc, DETECTION: facts.test_ap}
    measured = [
        f", {task.value_prefix}{level:.2f} % on {facts.dataset}"
        for task, level in levels.items()
        if level is not None
    ]
    epoch = f"epoch {metadata['epoch']}" if "epoch" in metadata else "its weights"
    model = student.experiment.student.model
    ends = f"{facts.classes} classes"
    if "embedding" in metadata:
        length = ", of length 1" if metadata.get("normalize") == "True" else ""
        ends = f"an embedding of {metadata['embedding']} numbers{length}"
    return f"{model} of arm {student.name}, {epoch}, {ends}{''.join(measured)}"
