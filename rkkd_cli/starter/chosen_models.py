"""The student and the teacher of a starter preset: as typed, or what is usual for the images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rkkd_cli.config.untrusted import LIBRARY_PREFIXES, is_own_model
from rkkd_cli.models.bigger import bigger_model
from rkkd_cli.starter.sizes import Scale

ROLES = ("student", "teacher")
OTHERS = "Others: rkkd ls models."
PRETRAINED = ' weights = "pretrained" begins with those of ImageNet, which it downloads.'


class ChosenModel(NamedTuple):
    """A model for a preset: its name, why it was chosen, first weights, and options."""

    name: str
    why: str
    weights: str | None = None
    options: Mapping[str, Any] | None = None

    @property
    def is_of_library(self) -> bool:
        """Whether it is a model of torchvision or timm."""
        return self.name.startswith(LIBRARY_PREFIXES)


def typed_flags(given: Mapping[str, str]) -> list[str]:
    """Return the flags of the models that are the user's own code, which no file may name."""
    flags: list[str] = []
    for role in ROLES:
        model, weights = given.get(f"{role}.model", ""), given.get(f"{role}.weights")
        if is_own_model(model):
            flags += [f"--{role}", model]
            flags += [] if weights is None else [f"--{role}-weights", weights]
    return flags


def chosen_student(given: Mapping[str, str], scale: Scale) -> ChosenModel:
    """Return the student for the typed keys of the models."""
    return _typed("student", given, scale.student) or ChosenModel(
        scale.student,
        f"A usual network for images of {scale.side} pixels. {OTHERS}",
        given.get("student.weights"),
    )


def chosen_teacher(given: Mapping[str, str], scale: Scale) -> ChosenModel:
    """Return the teacher for the typed keys of the models: without them, a bigger model.

    Raises UserError if no bigger one of the student's kind is known.
    """
    typed, weights = _typed("teacher", given, scale.teacher), given.get("teacher.weights")
    student = given.get("student.model", scale.student)
    if typed is not None:
        return typed
    if weights is not None or student == scale.student or is_own_model(student):
        why = f"A usual network to teach {scale.student}. {OTHERS}"
        return ChosenModel(scale.teacher, why, weights)
    why = f"A bigger network of the kind of {student}. {OTHERS}"
    return ChosenModel(bigger_model(student), why)


def _typed(role: str, given: Mapping[str, str], usual: str) -> ChosenModel | None:
    """Return the model that was typed, or the usual one in place of the user's own code."""
    name = given.get(f"{role}.model")
    if name is None:
        return None
    if is_own_model(name):
        why = f"Your own code is typed, as no file may name it: --{role} {name}. Without that, "
        return ChosenModel(usual, f"{why}this usual network is taken.")
    return ChosenModel(name, f"As typed. {OTHERS}", given.get(f"{role}.weights"))
