"""The lists of facts of a run: setting, environment, how to repeat it, files."""

import gzip
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.teachers import target_text
from rkkd_cli.config.untrusted import code_by_key
from rkkd_cli.config.value_lists import value_text
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import teacher_name
from rkkd_cli.records.run_directory import EXPERIMENT
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.stills import data_uri
from rkkd_cli.report.run_text import dataset_text, teacher_text
from rkkd_cli.report.setting_text import (
    base_text,
    classes_text,
    duration_text,
    join_values,
    objective_lines,
    recipe_lines,
    recipe_text,
    student_lines,
)

COMPRESS_ABOVE = 200_000  # bytes of a file
MAX_BYTES = 1_200_000  # of all files in a page
MEDIA_TYPES = {".csv": "text/csv", ".toml": "application/toml", ".json": "application/json"}


class Fact(NamedTuple):
    """One line of a list of facts."""

    name: str
    text: str


class Repeat(NamedTuple):
    """How to repeat a run: a command on the page's experiment file, and what it needs besides."""

    command: str
    needs: Sequence[str]


class Download(NamedTuple):
    """A file in the page. One that is too large has no link, and its text says so."""

    name: str
    text: str
    link: str | None


def setting_of(run: PageRun) -> list[Fact]:
    """Return dataset, classes, teacher, students, recipes, objectives, method, seeds and arms."""
    experiment, manifest = run.experiment, run.manifest
    base = base_text(experiment)
    facts = [Fact("based on", base)] if base else []
    facts += [Fact("dataset", dataset_text(dataset)) for dataset in manifest.datasets]
    names = [text for dataset in manifest.datasets if (text := classes_text(dataset))]
    facts += [Fact("classes", text) for text in names]
    facts += [Fact("teacher", teacher_text(teacher)) for teacher in manifest.teachers]
    facts += _teacher_recipes(run)
    facts += [Fact("student", text) for text in student_lines(experiment, manifest)]
    facts += [Fact("training", text) for text in recipe_lines(experiment)]
    facts += [Fact("objective", text) for text in objective_lines(manifest.objectives)]
    facts += [
        Fact("method", _method_text(experiment)),
        Fact("ranking loss", _changes(experiment.rank.model_dump(mode="json", exclude_none=True))),
        Fact("seeds", join_values(experiment.seeds)),
    ]
    if experiment.vary:
        varied = experiment.vary.items()
        facts += [Fact(f"varied: {key}", join_values(values)) for key, values in varied]
        facts.append(Fact("arms", f"{len(experiment.arms)} cells and baselines"))
    else:
        facts += [Fact(f"arm {name}", _changes(arm)) for name, arm in experiment.arms.items()]
    return [Fact(printable(fact.name), printable(fact.text)) for fact in facts]


def _teacher_recipes(run: PageRun) -> Iterator[Fact]:
    """Yield how the teachers were trained whose weights were not used as they are."""
    several = run.experiment.teachers
    trained = [facts for facts in run.manifest.teachers if facts["source"] != "checkpoint"]
    names = {*map(teacher_name, trained)}
    for name, teacher in run.experiment.named_teachers.items():
        if teacher.training is not None and (name in names if several else trained):
            called = f"training of {name}" if several else "teacher's training"
            yield Fact(called, recipe_text(teacher.training))


def environment_of(run: PageRun) -> list[Fact]:
    """Return status, duration, notes, device, processor, versions and commit."""
    manifest = run.manifest
    versions = ", ".join(f"{package} {version}" for package, version in manifest.versions.items())
    facts = [
        ("status", run.status), ("started", manifest.started), ("ended", manifest.ended),
        ("duration", duration_text(manifest)),
        *(("stopped", sentence) for sentence in manifest.stopped), ("reason", manifest.reason),
        *(("warning", sentence) for sentence in manifest.warnings),
        *(("note", sentence) for sentence in manifest.notes),
        ("device", manifest.device), ("processor", manifest.processor),
        ("platform", manifest.platform), ("versions", versions),
        ("commit", manifest.git_commit or "not recorded"),
    ]  # fmt: skip
    return [Fact(name, printable(text)) for name, text in facts if text is not None]


def command_of(run: PageRun) -> str:
    """Return the command that was typed, quoted for a shell."""
    return printable(shlex.join(run.manifest.command))


def repeat_of(run: PageRun) -> Repeat:
    """Return the command that repeats a run from its experiment file, and what it needs besides."""
    experiment, manifest = run.experiment, run.manifest
    code = code_by_key(experiment.model_dump(mode="json", exclude_none=True))
    ranks = ["torchrun", "--nproc-per-node", str(manifest.ranks), "-m", "rkkd_cli"]
    words = ranks if manifest.ranks > 1 else ["rkkd"]
    words = [*words, "grid" if experiment.vary else "run", saved_name(run, EXPERIMENT)]
    for key, names in code.items():  # a file may not name code: it has to be typed
        word = f"{key.removeprefix('vary.')}={','.join(names)}"
        words += ["--vary", word] if key.startswith("vary.") else [word]
    needs = [*_images_needed(run), *_weights_needed(run)]
    if code:
        files = [f"{name} (SHA-256 {digest[:16]}…)" for name, digest in manifest.code.items()]
        listed = files or sorted({name for names in code.values() for name in names})
        kept = "; copies are in the run's folder code/" if files else ""
        needs.append(f"own code: {', '.join(listed)}{kept}")
    versions = " and ".join(
        f"{name} {manifest.versions.get(name, '?')}" for name in ("rkkd", "torch")
    )
    needs.append(f"for the same bits: {versions}, on {manifest.device}")
    return Repeat(printable(shlex.join(words)), [printable(text) for text in needs])


def _images_needed(run: PageRun) -> list[str]:
    """Return where the images are from, unless they come with scikit-learn."""
    hashes = ", ".join(f"{facts['fingerprint'][:16]}…" for facts in run.manifest.datasets)
    texts = []
    for arm in run.experiment.resolved_arms:
        dataset = arm.experiment.dataset
        where = (
            f"in {dataset.root}" if dataset.root else f"of {dataset.name} (downloaded if missing)"
        )
        if dataset.root or dataset.name != "digits":
            texts.append(f"the images {where}, with fingerprint {hashes}")
    return list(dict.fromkeys(texts))


def _weights_needed(run: PageRun) -> list[str]:
    """Return the weights with which teachers and students begin."""
    arms = run.experiment.resolved_arms
    teachers = dict.fromkeys(t for arm in arms for t in arm.experiment.named_teachers.values())
    loaded = [t["sha256"][:16] for t in run.manifest.teachers if t["source"] == "checkpoint"]
    hashes = f" (SHA-256 {'…, '.join(loaded)}…)" if loaded else ""
    needs = [f"the teacher's weights {one.weights}{hashes}" for one in teachers if one.weights]
    for arm in arms:
        weights = cast(dict[str, Any], run.manifest.students.get(arm.name, {})).get("weights", {})
        digest = f" (SHA-256 {weights['sha256'][:16]}…)" if weights else ""
        if arm.experiment.student.weights:
            needs.append(f"the student's weights {arm.experiment.student.weights}{digest}")
    return list(dict.fromkeys(needs))


def saved_name(run: PageRun, file: str) -> str:
    """Return the name under which the page saves a file of the run."""
    return printable(f"{run.name}-{file}")


def downloads_of(run: PageRun, max_bytes: int = MAX_BYTES) -> Iterator[Download]:
    """Yield the run's files, compressed if large; those above ``max_bytes`` without a link."""
    for name, content in run.files.items():
        saved_as = saved_name(run, name)
        media_type = MEDIA_TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        if len(content) > COMPRESS_ABOVE:
            content = gzip.compress(content, mtime=0)
            saved_as, media_type = f"{saved_as}.gz", "application/gzip"
        text = f"{saved_as} ({len(content) / 1000:,.0f} kB)"
        if len(content) > max_bytes:
            text += " is too large for this page: see the run's folder"
            yield Download(saved_as, text, None)
        else:
            yield Download(saved_as, text, data_uri(content, media_type))


def _method_text(experiment: Experiment) -> str:
    table = experiment.method.model_dump(mode="json", exclude_none=True)
    name = str(table.pop("name"))
    if experiment.method.teacher is not None:
        table["teacher"] = target_text(experiment.method.teacher)
    scalars = {k: v for k, v in table.items() if isinstance(v, int | float | str)}
    return ", ".join([name, *(f"{key} = {value_text(v)}" for key, v in scalars.items())])


def _changes(arm: Any, prefix: str = "") -> str:
    table = arm if isinstance(arm, dict) else arm.model_dump(exclude_none=True)
    changes = [
        _changes(value, f"{prefix}{key}.")
        if isinstance(value, dict)
        else f"{prefix}{key} = {value_text(value)}"
        for key, value in table.items()
    ]
    return ", ".join(changes) or "the base experiment"
