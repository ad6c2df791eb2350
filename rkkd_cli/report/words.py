"""The columns of metrics.csv in words: what figures, tables and headings call them."""

from typing import NamedTuple

from rkkd_cli.config.tasks import METRIC_NAMES, SHORT_NAMES, TASKS
from rkkd_cli.config.teachers import target_text


class Quantity(NamedTuple):
    """A column of metrics.csv, its name in words, its unit, and the title of its figure."""

    column: str
    name: str
    unit: str
    title: str

    @property
    def label(self) -> str:
        """The name and the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def difference_unit(self) -> str:
        """The unit of a difference of two values; differences of percentages are points."""
        return {"%": "points", "nats": "nats"}.get(self.unit, "")


# Names and units of columns without the split that they are measured on.
NAMES = {
    **{metric: (name, "%") for metric, name in METRIC_NAMES.items()},
    "ce": ("cross-entropy", "nats"),
    "triplet": ("triplet loss", ""),
    "box": ("loss of the boxes", ""),
    "rpn_objectness": ("loss of the proposals' objectness", ""),
    "rpn_box": ("loss of the proposals' boxes", ""),
    "centerness": ("loss of the centerness", ""),
    "kl": ("KL divergence × T²", "nats"),
    "rank": ("ranking loss", "−1: same order"),
    "kendall_tau": ("Kendall's τ-b", ""),
    "agreement": ("agreement with the teacher", "%"),
    "lr": ("learning rate", ""),
    "epoch_seconds": ("seconds of an epoch", ""),
    "images_per_second": ("images per second", ""),
    "grad_norm_kl": ("norm of KL's gradient", ""),
    "grad_norm_rank": ("norm of the ranking loss' gradient", ""),
    "grad_cosine": ("cosine between the gradients", ""),
    "grad_low_share_kl": ("share of KL's gradient on the lower half of the channels", ""),
    "grad_low_share_rank": (
        "share of the ranking loss' gradient on the lower half of the channels", "",
    ),
    "grad_low_share_teacher": (
        "share of the teacher's probabilities on the lower half of the channels", "",
    ),
    "grad_live_pairs": ("share of live pairs of the ranking loss", ""),
}  # fmt: skip
SPLITS = {"train": "training", "test": "test", "val": "validation"}
OF_THE_TRAINING = {column for task in TASKS.values() for column in task.training_columns}


def quantity_of(column: str) -> Quantity:
    """Return a column in words; a term of a method keeps its own name.

    Held-out splits have KL and ranking loss to each of several teachers.
    """
    prefix, _, rest = column.partition("_")
    if prefix in SPLITS and rest in NAMES:
        name, unit = NAMES[rest]
        name = f"{SPLITS[prefix]} {name}"
        return Quantity(column, name, unit, capitalised(name.removesuffix(" × T²")))
    term, _, teacher = rest.partition("_")
    if prefix in SPLITS and term in ("kl", "rank"):
        name, unit = NAMES[term]
        short = f"{SPLITS[prefix]} {name.removesuffix(' divergence × T²')}"
        title = capitalised(f"{short} to {target_text(teacher)}")
        return Quantity(column, f"{SPLITS[prefix]} {name}", unit, title)
    if column not in NAMES:
        return Quantity(column, column, "", f"Term {column}, training")
    name, unit = NAMES[column]
    where = ", training" if column in OF_THE_TRAINING else ""
    return Quantity(column, name, unit, capitalised(name.removesuffix(" × T²")) + where)


def short_name(column: str) -> str:
    """Return a metric of the test images in a few letters, for headings: ``test acc``."""
    split, _, metric = column.partition("_")
    return f"{split} {SHORT_NAMES[metric]}"


def capitalised(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]
