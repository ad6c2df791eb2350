"""What a run is called: as its preset while it is the preset's, otherwise by what it is."""

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import DESCRIPTION_KEYS, DESCRIPTIVE_KEYS, Experiment
from rkkd_cli.config.grid import count_cells, is_baseline
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.presets import preset_path, read_unchecked
from rkkd_cli.config.shipped import preset_description, preset_names
from rkkd_cli.config.untrusted import TEACHERS_MODEL
from rkkd_cli.config.value_lists import value_text
from rkkd_cli.errors import UserError

# Keys that a preset's title, source, finding and notes say nothing about.
UNSPOKEN = (
    "seeds", "device", "threads", "decoders", "precision", "deterministic", "stacked",
    "cuda_graph", "cache_teacher", "sync_batchnorm",
)  # fmt: skip
OF_THE_WHOLE_PRESET = ("cost", "command")  # they also count its seeds
COUNTS = re.compile(r"(?:, ([0-9,]+) images)?, ([0-9,]+) classes\b")
# Keys whose values the title states, with their names in the list of what was changed.
WHOLE = {
    "dataset.name": "dataset", "dataset.root": "dataset", "teacher.model": "teacher",
    "student.model": "student",
}  # fmt: skip
IN_TITLE = {**WHOLE, "training.epochs": "epochs", "dataset.limit_train": "images"}
MAX_CHANGES, MAX_TEACHERS = 6, 3


class Counts(NamedTuple):
    """The classes of a dataset that has been read, and the images that are trained on."""

    classes: int
    images: int


def label_of(preset: str) -> str:
    """Return the name of a preset, of its file, or of the run that recorded it."""
    path = Path(preset)
    in_run = path.name == "experiment.toml" and path.parent.name
    return path.parent.name if in_run else path.stem


def subject_of(experiment: Experiment, counts: Counts | None = None) -> str:
    """Return the data, the models and the epochs of a run: ``digits: A → B, 30 epochs``."""
    arms = [arm.experiment for arm in experiment.resolved_arms]
    data = _one_of([_dataset_text(arm) for arm in arms], "datasets")
    if counts and data == _dataset_text(arms[0]):
        split = arms[0].dataset.classes
        classes = f"{counts.classes:,} classes"
        if split is not None:
            classes = f"{len(split.train):,} classes, {len(split.test):,} others"
        data = f"{_dataset_text(arms[0], counts.images)}, {classes}"
    teacher = _one_of([_teachers_text(arm) for arm in arms], "teachers")
    student = _one_of([arm.student.model for arm in arms], "students")
    epochs = sorted({arm.training.epochs for arm in arms})
    span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    varied = " × ".join(key.rpartition(".")[2] for key in experiment.vary)
    parts = [f"{data}: {teacher} → {student}", f"{span} epoch{'s' * (epochs[-1] > 1)}"]
    return ", ".join([*parts, *([f"grid of {varied}"] if varied else [])])


def _one_of(names: list[str], kind: str) -> str:
    distinct = dict.fromkeys(names)
    return names[0] if len(distinct) == 1 else f"{len(distinct)} {kind}"


def _teachers_text(experiment: Experiment) -> str:
    """Return the model of the teacher, or the names of several."""
    names = [*experiment.teachers] or [experiment.teacher.model]
    return " + ".join(names) if len(names) <= MAX_TEACHERS else f"{len(names)} teachers"


def _dataset_text(experiment: Experiment, images: int | None = None) -> str:
    """Return the dataset, and how many images a limit leaves of it: ``images``, once counted."""
    dataset = experiment.dataset
    text = dataset.name
    if dataset.name == "folder" and dataset.root:
        text = f"folder `{Path(dataset.root).expanduser().absolute().name}`"
    return text + (f", {images or dataset.limit_train:,} images" if dataset.limit_train else "")


def made_title(experiment: Experiment, counts: Counts | None = None) -> str:
    """Return the title that the experiment has unless its preset or the user gives one."""
    base = f"; based on {experiment.based_on}" if experiment.based_on else ""
    return subject_of(experiment, counts) + base


def short_title(experiment: Experiment, counts: Counts | None = None) -> str:
    """Return a title of the user's own, otherwise :func:`subject_of`, which a figure has room for.

    A preset's title asks more than a figure answers.
    """
    made = {"", made_title(experiment), made_title(experiment, counts)}
    shipped = {preset_description(name).get("title") for name in preset_names()}
    is_own = experiment.title not in made | shipped
    return experiment.title if is_own else subject_of(experiment, counts)


def with_counts(experiment: Experiment, counts: Counts) -> Experiment:
    """Return the experiment with what was counted in its title, if that was made here."""
    if experiment.title != made_title(experiment):
        return experiment
    return experiment.model_copy(update={"title": made_title(experiment, counts)})


def described(
    experiment: Experiment, own: Experiment | None, label: str, typed: Collection[str]
) -> Experiment:
    """Return the experiment with texts that are true of it.

    ``own`` is the experiment of the file that it was made from, None if that is incomplete, and
    ``label`` that file's name. A file with the title of a shipped preset is a copy of that. Texts
    that were ``typed`` stay.
    """
    base, name = _base_of(own, label)
    changes = None if base is None else changes_between(base, experiment)
    if own is not None and own.based_on and not changes_between(own, experiment):
        base, changes = own, []
    if base is not None and not changes:
        texts = {key: getattr(base, key) for key in DESCRIPTION_KEYS}
        if base.seeds != experiment.seeds:
            texts |= dict.fromkeys(OF_THE_WHOLE_PRESET, "")
        if base.dataset.root != experiment.dataset.root:  # its title is one of any folder
            texts |= {"title": "", "based_on": name}
    else:
        texts = dict.fromkeys(DESCRIPTION_KEYS, "") | {"based_on": _based_on(name, changes)}
    texts = {key: text for key, text in texts.items() if key not in typed}
    named = experiment.model_copy(update=texts)
    return named if named.title else named.model_copy(update={"title": made_title(named)})


def _base_of(own: Experiment | None, label: str) -> tuple[Experiment | None, str]:
    """Return the shipped preset that a file is a copy of, or the file's experiment; its name."""
    if own is None or label in preset_names():
        return own, label
    origin = own.based_on.partition(",")[0]
    for name in preset_names():
        if name == origin or (own.title and preset_description(name).get("title") == own.title):
            return own_experiment(name), name
    return own, label


def own_experiment(preset: str) -> Experiment | None:
    """Return the experiment of a preset as it stands in its file, None if it is incomplete."""
    with suppress(UserError):
        return read_unchecked(preset_path(preset))
    return None


def _based_on(name: str, changes: list[str] | None) -> str:
    if not changes:
        return name
    more = len(changes) - MAX_CHANGES
    shown = [*changes[:MAX_CHANGES], *([f"and {more} more"] if more > 0 else [])]
    return f"{name}, changed: {', '.join(shown)}"


def changes_between(base: Experiment, experiment: Experiment) -> list[str]:
    """Return what differs and is spoken of in titles: ``["dataset", "epochs", "lr=0.1"]``.

    First come the names of what the title states, then the other settings with their values.
    """
    before, after = _spoken_values(base), _spoken_values(experiment)
    if base.dataset.root is None and base.dataset.name == experiment.dataset.name:
        after["dataset.root"] = None  # left to the command line, so any folder is meant
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    whole = {WHOLE[key] for key in keys if key in WHOLE}
    keys = [key for key in keys if key in WHOLE or key.partition(".")[0] not in whole]
    others = tuple(key.removesuffix("model") for key in keys if TEACHERS_MODEL.fullmatch(key))
    keys = [key for key in keys if key.endswith(".model") or not key.startswith(others)]
    names = [IN_TITLE[key] for key in keys if key in IN_TITLE]
    names += [
        f"{_short_key(key)}={value_text(after.get(key))}" for key in keys if key not in IN_TITLE
    ]
    if _arms_differ(base, experiment) and "method.name" not in keys:
        few = len(experiment.arms) <= MAX_CHANGES
        arms = f"arms {' + '.join(experiment.arms)}" if few else f"{len(experiment.arms):,} arms"
        names.append("cells" if experiment.vary else arms)
    return list(dict.fromkeys(names))


def _spoken_values(experiment: Experiment) -> dict[str, Any]:
    excluded = {*DESCRIPTIVE_KEYS, *UNSPOKEN, "arms"}
    return flatten(experiment.model_dump(mode="json", exclude=excluded))


def _arms_differ(base: Experiment, experiment: Experiment) -> bool:
    if not experiment.vary:
        return base.arms != experiment.arms
    if base.vary != experiment.vary:
        return False  # the values of the keys say it
    counts = [sum(not is_baseline(arm) for arm in grid.arms) for grid in (base, experiment)]
    return counts[1] != (counts[0] if "arms" in base.model_fields_set else count_cells(base.vary))


def _short_key(key: str) -> str:
    if key == "method.name":
        return "method"
    return key.removeprefix("dataset.").replace("training.", "", 1)


def continued_texts(
    recorded: Experiment, requested: Experiment, typed: Collection[str]
) -> Experiment:
    """Return the request to continue a run with the texts of the run, where they stay true."""
    found = COUNTS.search(recorded.title)
    stays = not changes_between(recorded, requested)
    if not stays and requested.vary and not requested.based_on:
        stays = not _is_within(recorded.vary, requested.vary)
    if stays:
        texts = {key: getattr(recorded, key) for key in DESCRIPTION_KEYS if key not in typed}
        return requested.model_copy(update=texts)
    if not found:
        return requested
    images, classes = (int((text or "0").replace(",", "")) for text in found.groups())
    return with_counts(requested, Counts(classes, images))


def _is_within(vary: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all values of a grid's keys are among those of another grid."""
    texts = {key: {*map(str, values)} for key, values in other.items()}
    return all({*map(str, values)} <= texts.get(key, set()) for key, values in vary.items())
