"""Trained teachers on disk, each under a key of everything that determines it."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.images import Dataset
from rkkd_cli.errors import UserError
from rkkd_cli.files import remove_leftovers, whole_file, write_whole
from rkkd_cli.models import load_checkpoint
from rkkd_cli.train.checkpoint import CheckpointStore

# Raised whenever the training code changes so that the same recipe gives another teacher.
TRAINING_VERSION = 1

ENTRY = ("weights.pt", "teacher.json")  # the facts last: without them the weights count as none
IMPORTED = "weights.safetensors"  # what an entry has instead that came out of a file


def teacher_key(experiment: Experiment, dataset: Dataset) -> str:
    """Return the key of the teacher that the experiment would train on the dataset.

    It covers the training images, their order, augmentation and normalisation, the model, the
    recipe, the seed and the precision. Device and library versions are recorded beside the
    weights instead: they move the last bits, and nobody wants to train again for a new torch.
    """
    teacher = experiment.teacher
    assert teacher.training is not None
    parts = {
        "training_version": TRAINING_VERSION,
        "images": dataset.train.fingerprint,
        "classes": dataset.classes,
        "normalisation": (dataset.mean, dataset.std),
        "augmentation": dataset.augmentation,
        "model": teacher.model,
        "recipe": teacher.training.model_dump(mode="json"),
        "seed": teacher.seed,
        "precision": experiment.precision,
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


class TeacherStore:
    """The folder of cached teachers: ``<key>/weights.pt`` and ``<key>/teacher.json``."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "teachers"

    def load(self, key: str, model: nn.Module) -> str | None:
        """Load a cached teacher into ``model``; return its SHA-256, or None if there is none.

        A teacher whose file no longer matches its recorded SHA-256 counts as none; the model is
        then as it was.
        """
        try:
            sha256 = self._sha256(key)
            if sha256 is not None:
                load_checkpoint(model, self.folder / key / "weights.pt")
            return sha256
        except (UserError, OSError):
            return None

    def save(self, key: str, model: nn.Module, facts: dict[str, Any]) -> str:
        """Write weights and facts; return the SHA-256 of the weights file.

        The facts come last: without them, or with older ones, the weights count as none.
        """
        content = io.BytesIO()
        torch.save({k: v.cpu() for k, v in model.state_dict().items()}, content)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        text = json.dumps(facts | {"key": key, "sha256": sha256}, indent=2, ensure_ascii=False)
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / key / "weights.pt") as file:
            file.write(content.getvalue())
        write_whole(self.folder / key / "teacher.json", text)
        return sha256

    def entry(self, key: str) -> dict[str, bytes] | None:
        """Return the files of a teacher, if there is one."""
        if self._sha256(key) is None:
            return None
        return {name: (self.folder / key / name).read_bytes() for name in ENTRY}

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keep the files of a teacher, the facts last; one that is there stays."""
        if self._sha256(key) is not None:
            return
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        for name in ENTRY:
            with whole_file(self.folder / key / name) as file:
                file.write(files[name])

    def copy_from(self, other: "TeacherStore", key: str) -> None:
        """Take a teacher over from another folder, if that one has it and this one does not."""
        files = None if self._sha256(key) is not None else other.entry(key)
        if files is not None:
            self.put(key, files)

    def _sha256(self, key: str) -> str | None:
        """Return the SHA-256 of the weights, or None where they are not those of the facts."""
        facts = self._facts(self.folder / key)
        if facts is None:
            return None
        sha256 = file_sha256(self.folder / key / "weights.pt")
        return sha256 if sha256 == facts["sha256"] else None

    def checkpoints(self, key: str) -> CheckpointStore:
        """Return where the training of a teacher keeps its checkpoints until it is done."""
        return CheckpointStore(self.folder / key / "training")

    def lock_path(self, key: str) -> Path:
        """Return the file that is locked by the process that trains the teacher."""
        (self.folder / key).mkdir(parents=True, exist_ok=True)
        return self.folder / key / ".lock"

    def remove_leftovers(self, key: str) -> None:
        """Remove what killed writers have left; the caller holds the lock."""
        remove_leftovers(self.folder / key)

    def weights_path(self, key: str) -> Path:
        """Return the weights file of a teacher, trained here or imported."""
        return self.folder / key / (IMPORTED if key.startswith("imported-") else ENTRY[0])

    def list(self) -> list[dict[str, Any]]:
        """Return the facts of all cached teachers, the newest last."""
        found = [self._facts(path) for path in self.folder.glob("*/")]
        return sorted(
            (f for f in found if f), key=lambda f: str(f.get("trained", f.get("imported")))
        )

    def _facts(self, folder: Path) -> dict[str, Any] | None:
        try:
            facts = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        complete = isinstance(facts, dict) and "sha256" in facts
        return facts if complete and self.weights_path(folder.name).is_file() else None


def size_text(size: tuple[int, int]) -> str:
    """Return the (height, width) of images as teachers' facts have it: ``32x32``."""
    return f"{size[0]}x{size[1]}"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
