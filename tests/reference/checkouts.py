"""The published losses, imported from clones of their repositories, to be called in float64.

Nothing is installed. Single files are imported under names of their own, imports that they do not
need here are replaced by stubs, and ``.cuda()`` does nothing.
"""

import ast
import importlib
import math
import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def import_file(folder: Path, name: str) -> Any:
    """Import ``folder/name.py`` as part of a package that has no ``__init__``."""
    package = "published_" + "_".join(folder.resolve().parts[1:]).replace(".", "_")
    if package not in sys.modules:
        stub = ModuleType(package)
        stub.__path__ = [str(folder)]
        sys.modules[package] = stub
    return importlib.import_module(f"{package}.{name}")


def import_definitions(file: Path, *names: str) -> Any:
    """Return these classes and functions of a script without running the rest.

    Of what it imports they may need ``math``, ``random`` and ``combinations``.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef)
    tree.body = [n for n in tree.body if isinstance(n, kinds) and n.name in names]
    scope: dict[str, Any] = {"math": math, "random": random, "combinations": combinations}
    exec(compile(tree, str(file), "exec"), scope)
    return SimpleNamespace(**{name: scope[name] for name in names})


def install_stubs() -> None:
    """Replace the imports that the losses do not use."""
    torch.Tensor.cuda = lambda self, *_: self  # type: ignore[method-assign]
    sys.modules["turtle"] = SimpleNamespace(st=None)  # type: ignore[assignment]
    registry = SimpleNamespace(register_module=lambda: lambda cls: cls)
    sys.modules["mmrazor"] = ModuleType("mmrazor")
    sys.modules["mmrazor.registry"] = SimpleNamespace(MODELS=registry)  # type: ignore[assignment]


def commit_of(checkout: Path) -> str:
    """Return the commit of a clone; a checkout without git states it in a file COMMIT."""
    if (checkout / "COMMIT").is_file():
        return (checkout / "COMMIT").read_text(encoding="utf-8").strip()
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def mlkd(
    file: Any, logits: dict[str, Tensor], standardize: bool, temperature: float
) -> dict[str, Tensor]:
    """Return the losses of ``MLKD.forward_train`` with all weights 1, for given logits."""
    self = SimpleNamespace(
        student=lambda view: (logits[f"student_{view}"], None),
        teacher=lambda view: (logits[f"teacher_{view}"], None),
        temperature=temperature,
        ce_loss_weight=1.0,
        kd_loss_weight=1.0,
        logit_stand=standardize,
    )
    target = torch.zeros(len(logits["student_weak"]), dtype=torch.int64)
    losses: dict[str, Tensor] = file.MLKD.forward_train(self, "weak", "strong", target)[1]
    return losses


def crd(
    package: Path, x: dict[str, Tensor], num_data: int, temperature: float
) -> dict[str, Tensor]:
    """Run ContrastMemory and ContrastLoss once on both models; return losses, log Z and rows.

    ``x`` has ``student`` and ``teacher`` (B, D), ``student_memory`` and ``teacher_memory``
    (n, D). Image b has sample index b; its negatives are the K images after it.
    """
    memory_file, criterion = import_file(package, "memory"), import_file(package, "criterion")
    memory_file.AliasMethod.cuda = lambda _: None
    size, width = x["student"].shape
    negatives = x["teacher_memory"].shape[0] - 2
    memory = memory_file.ContrastMemory(width, num_data, negatives).double()
    memory.params = torch.tensor([negatives, temperature, -1, -1, 0.5], dtype=torch.float64)
    memory.memory_v1.copy_(x["student_memory"].detach())
    memory.memory_v2.copy_(x["teacher_memory"].detach())
    indices = torch.arange(size)
    samples = (indices[:, None] + torch.arange(negatives + 1)) % num_data
    student, teacher = memory(x["student"], x["teacher"], indices, samples)
    loss = criterion.ContrastLoss(num_data)
    return {
        "student_loss": loss(student),
        "teacher_loss": loss(teacher),
        "student_log_z": memory.params[2].log(),
        "teacher_log_z": memory.params[3].log(),
        "student_rows": memory.memory_v1[:size],
        "teacher_rows": memory.memory_v2[:size],
    }


def vid(file: Any, log_scale: Tensor, mean: Tensor, teacher: Tensor) -> Tensor:
    """Return VIDLoss with the identity as its regressor."""
    loss = file.VIDLoss(mean.shape[1], 1, mean.shape[1])
    loss.regressor = torch.nn.Identity()
    del loss.log_scale
    loss.log_scale = log_scale
    value: Tensor = loss(mean, teacher)
    return value


def simkd(file: Any, student: Tensor, teacher: Tensor) -> Tensor:
    """Return SimKD's loss with the identity as its projector: train_student.py's MSELoss."""
    self = SimpleNamespace(
        transfer=torch.nn.Identity(), avg_pool=torch.nn.AdaptiveAvgPool2d((1, 1))
    )
    projected, pooled, _ = file.SimKD.forward(self, student, teacher, torch.nn.Identity())
    value: Tensor = torch.nn.MSELoss()(projected, pooled)
    return value
