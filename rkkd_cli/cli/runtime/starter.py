"""``rkkd init``: look at a folder of images, choose, and write the preset."""

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path

from rkkd_cli import __version__
from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.runtime.target import check_target
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import is_unset
from rkkd_cli.config.presets import preset_path, preset_text, read_table, word_of
from rkkd_cli.config.validation import experiment_from
from rkkd_cli.data.folder_facts import FolderFacts, folder_facts
from rkkd_cli.errors import printable
from rkkd_cli.files import write_atomically
from rkkd_cli.models import check_model_name
from rkkd_cli.starter.choices import Choice, choices
from rkkd_cli.starter.chosen_models import (
    ROLES,
    ChosenModel,
    chosen_student,
    chosen_teacher,
    typed_flags,
)
from rkkd_cli.starter.commented import commented_preset
from rkkd_cli.starter.sizes import scale_for

USUAL = "my_images"  # the preset for any folder: its recipe, and its claims


def write_starter(folder: Path, given: Mapping[str, str], to: Path | None, force: bool) -> None:
    """Write a preset for the folder; ``given`` are the keys of the models that were typed.

    Prints the file and the commands that run it. Raises UserError, before anything is written, for
    a folder, a model or a place that does not fit.
    """
    folder = folder.expanduser()
    path = _target(folder, to)
    check_target(path, force)
    for role in ROLES:
        if f"{role}.model" in given:
            check_model_name(given[f"{role}.model"])
    facts = folder_facts(folder)
    chosen = _choose(facts, _as_seen(folder, path), _with_paths(given, path))
    commands = _commands(path, typed_flags(given))
    text = commented_preset(_head(facts, commands), chosen, _claims())
    _checked(text, path)
    write_atomically(path, text)
    for sentence in facts.sentences():
        print_line(err, f"rkkd: {sentence}")
    models = {one.key: one.value for one in chosen}
    pair = f"{models['teacher.model']} teaches {models['student.model']}"
    print_line(out, f"{path}: {facts.summary}, {pair}")
    for command in commands:
        print_line(out, command)


def _choose(facts: FolderFacts, root: str, given: Mapping[str, str]) -> list[Choice]:
    scale = scale_for(facts.headers, given.get("student.model"))
    student, teacher = chosen_student(given, scale), chosen_teacher(given, scale)
    usual = read_table(preset_path(USUAL))
    chosen = choices(facts, root, student, teacher, usual)
    if "teacher.model" in given or not _is_file(teacher.weights):
        return chosen
    return choices(facts, root, student, _recognised(teacher, chosen), usual)


def _recognised(teacher: ChosenModel, chosen: list[Choice]) -> ChosenModel:
    """Return the teacher that its file holds. Raises UserError if that cannot be told."""
    from rkkd_cli.sweep.teacher_import import model_in_checkpoint

    experiment = _checked(commented_preset([], chosen, ""), Path("the preset"))
    model, options = model_in_checkpoint(experiment)
    return teacher._replace(name=model, why="Its file holds this model.", options=options)


def _checked(text: str, path: Path) -> Experiment:
    """Return the experiment of a preset's text. Raises UserError for weights that there are not."""
    experiment = experiment_from(tomllib.loads(text), str(path))
    for config in (experiment.teacher, experiment.student):
        if config.weights is not None:
            from rkkd_cli.train.configured_model import weights_source

            weights_source(config)
    return experiment


def _target(folder: Path, to: Path | None) -> Path:
    """Return the file to write: by default in this folder, named after that of the images."""
    default = f"{folder.resolve().name or 'images'}.toml"
    to = Path(default) if to is None else to.expanduser()
    return to / default if to.is_dir() else to


def _as_seen(path: Path, preset: Path) -> str:
    """Return the path as the preset names it, to be found from the folder of the preset.

    It is relative only if it was typed so and the preset is in this folder; a word that has a
    meaning of its own in a preset is no path there.
    """
    text = str(path)
    elsewhere = preset.absolute().parent != Path.cwd()
    return str(path.absolute()) if elsewhere or is_unset(text) or text.startswith("~") else text


def _with_paths(given: Mapping[str, str], preset: Path) -> dict[str, str]:
    """Return the typed keys; those that name a file, as the preset names it."""
    return {
        key: _as_seen(Path(text).expanduser(), preset) if _is_file(text) else text
        for key, text in given.items()
    }


def _is_file(weights: str | None) -> bool:
    return weights is not None and Path(weights).expanduser().is_file()


def _commands(path: Path, flags: list[str]) -> list[str]:
    run = shlex.join(["rkkd", "run", word_of(path), *flags])
    return [f"{run} --dry-run", run]


def _head(facts: FolderFacts, commands: list[str]) -> list[str]:
    """Return the first lines of the preset, without anything that would end a comment."""
    return [
        f"A starter preset by rkkd {__version__} for {facts.summary}.",
        "Each comment says why a value was chosen. Any key can be changed here, or typed behind",
        "the command: training.epochs=100. All keys: rkkd ls keys.",
        "",
        *map(printable, commands),
    ]


def _claims() -> str:
    """Return the claims that `rkkd findings` checks, as the usual preset has them."""
    text = preset_text(USUAL)
    return text[text.index("[findings.") :]
