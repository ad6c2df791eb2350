"""Trained teachers on disk, each under a key of everything that determines it."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rkkd_cli.config.experiment import Experiment, TrainingConfig
from rkkd_cli.config.tasks import without_detector
from rkkd_cli.config.untrusted import is_own_model
from rkkd_cli.data.on_device import AnyDataset
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file, file_sha256, write_atomically
from rkkd_cli.models import load_checkpoint
from rkkd_cli.plugins import source_hash
from rkkd_cli.train.checkpoint import CheckpointStore
from rkkd_cli.train.configured_model import model_input, weights_sha256

# Increase this when the training code changes such that the same recipe gives another teacher.
TRAINING_VERSION = 1
# Keys of a recipe that the first recipes did not have.
LATER_KEYS = ("norm_bias_decay", "clip_grad_norm", "min_lr", "warmup_lr", "label_smoothing",
              "per_class", "batches_per_epoch")  # fmt: skip

WEIGHTS_FILE, FACTS_FILE = "weights.pt", "teacher.json"
IMPORTED_WEIGHTS_FILE = "weights.safetensors"
IMPORTED_PREFIX = "imported-"  # of the keys of imported teachers


def teacher_key(experiment: Experiment, dataset: AnyDataset) -> str:
    """Return the key of the teacher that the experiment would train on the dataset.

    It covers the training images, their order, augmentation and normalisation, the model (also its
    options, and its source if it is the user's), its first weights and its input, the recipe, the
    seed and the precision. Device and library versions are recorded beside the weights instead:
    they change the last bits only, and nobody wants to train again for a new PyTorch.
    """
    teacher = experiment.teacher
    assert teacher.training is not None
    parts: dict[str, Any] = {
        "training_version": TRAINING_VERSION,
        "images": dataset.train.fingerprint,
        "classes": dataset.classes,
        "normalisation": (dataset.mean, dataset.std),
        "augmentation": dataset.augmentation,
        "model": teacher.model,
        "recipe": teacher.training.model_dump(mode="json", exclude=_unused(teacher.training)),
        "seed": teacher.seed,
        "precision": experiment.precision,
    }
    if experiment.task == "embedding":
        parts["task"] = [teacher.embedding_facts, experiment.triplet.model_dump()]
    if teacher.options:
        parts["options"] = teacher.options
    takes, weights = model_input(teacher, dataset.image_format), weights_sha256(teacher)
    parts |= {} if takes.is_same else {"input": takes.own}
    parts |= {} if weights is None else {"weights": weights}
    if is_own_model(teacher.model):
        parts["code"] = source_hash("model", without_detector(teacher.model))
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _unused(recipe: TrainingConfig) -> set[str]:
    """Return the keys that came later and have their defaults: older teachers are found so."""
    fields = TrainingConfig.model_fields
    return {key for key in LATER_KEYS if getattr(recipe, key) == fields[key].default}


class TeacherStore:
    """A folder of teachers, each in a folder named by its key.

    It holds the weights and their facts. The facts are written last: without them, or with those
    of other weights, there is no teacher.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "teachers"

    def load(self, key: str, model: nn.Module) -> str | None:
        """Load a teacher into ``model``; return the SHA-256 of its weights.

        Returns None, and leaves the model as it is, if there is none or its weights are damaged.
        """
        try:
            sha256 = self._intact_sha256(key)
            if sha256 is not None:
                load_checkpoint(model, self.weights_path(key))
            return sha256
        except (UserError, OSError):
            return None

    def save(self, key: str, model: nn.Module, facts: dict[str, Any]) -> str:
        """Write a trained teacher; return the SHA-256 of its weights."""
        content = io.BytesIO()
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, content)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        self.write(key, content.getvalue(), facts | {"key": key, "sha256": sha256})
        return sha256

    def write(self, key: str, weights: bytes, facts: Mapping[str, Any]) -> None:
        """Write a teacher's weights file, then its facts."""
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        with atomic_file(self.weights_path(key)) as file:
            file.write(weights)
        write_atomically(self.folder / key / FACTS_FILE, text)

    def read_files(self, key: str) -> dict[str, bytes] | None:
        """Return the files of a trained teacher by their names, if there is one."""
        if self._intact_sha256(key) is None:
            return None
        names = (WEIGHTS_FILE, FACTS_FILE)
        return {name: (self.folder / key / name).read_bytes() for name in names}

    def write_files(self, key: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a trained teacher, the facts last, unless there is one already."""
        if self._intact_sha256(key) is not None:
            return
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS_FILE, FACTS_FILE):
            with atomic_file(self.folder / key / name) as file:
                file.write(files[name])

    def copy_from(self, store: "TeacherStore", key: str) -> None:
        """Copy a teacher from another store, if it has it and this one does not."""
        files = None if self._intact_sha256(key) is not None else store.read_files(key)
        if files is not None:
            self.write_files(key, files)

    def _intact_sha256(self, key: str) -> str | None:
        """Return the SHA-256 of the weights, or None if they are not those of the facts."""
        facts = self._read_facts(self.folder / key)
        if facts is None:
            return None
        sha256 = file_sha256(self.folder / key / WEIGHTS_FILE)
        return sha256 if sha256 == facts["sha256"] else None

    def facts(self, key: str) -> dict[str, Any]:
        """Return the facts of a teacher; none if it is not there."""
        return self._read_facts(self.folder / key) or {}

    def checkpoints(self, key: str) -> CheckpointStore:
        """Return the store for the checkpoints of a teacher's training."""
        return CheckpointStore(self.folder / key / "training")

    def lock_path(self, key: str) -> Path:
        """Return the file that the process that trains the teacher locks."""
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        return self.folder / key / ".lock"

    def weights_path(self, key: str) -> Path:
        """Return the weights file of a teacher, trained here or imported."""
        is_imported = key.startswith(IMPORTED_PREFIX)
        return self.folder / key / (IMPORTED_WEIGHTS_FILE if is_imported else WEIGHTS_FILE)

    def list(self) -> list[dict[str, Any]]:
        """Return the facts of all teachers, the newest last."""
        teachers = [self._read_facts(path) for path in self.folder.glob("*/")]
        return sorted(
            (facts for facts in teachers if facts),
            key=lambda facts: str(facts.get("trained", facts.get("imported"))),
        )

    @classmethod
    def facts_beside(cls, weights: Path) -> dict[str, Any] | None:
        """Return the facts of a weights file that is in a store."""
        folder = weights.absolute().parent
        store = cls(folder.parent.parent)
        is_stored = store.weights_path(folder.name) == weights.absolute()
        return store._read_facts(folder) if is_stored else None

    def _read_facts(self, folder: Path) -> dict[str, Any] | None:
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        is_complete = isinstance(facts, dict) and "sha256" in facts
        return facts if is_complete and self.weights_path(folder.name).is_file() else None


def format_image_size(size: tuple[int, int]) -> str:
    """Return the (height, width) of images as in a teacher's facts: ``32x32``."""
    return f"{size[0]}x{size[1]}"
