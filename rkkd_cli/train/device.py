"""Where a run computes, and in which precision."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

from rkkd_cli.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises UserError when there is no such device.
    """
    if name == "auto":
        return torch.device(_best())
    kind = name.partition(":")[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or kind not in ("cpu", "cuda", "mps"):
        raise UserError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps")
    available = torch.cuda.device_count() if kind == "cuda" else int(_present(kind))
    if (device.index or 0) >= available:
        raise UserError(
            f"device {name} is not available on this machine; use --device auto or "
            f"--device {_best()}"
        )
    return device


def _best() -> str:
    return next(kind for kind in ("cuda", "mps", "cpu") if _present(kind))


def _present(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or torch.backends.mps.is_available()


def use_threads(threads: int | None) -> None:
    """Let PyTorch compute with so many CPU threads from now on; None leaves its own choice."""
    if threads is not None:
        torch.set_num_threads(threads)


# Of glibc's malloc.h; the largest threshold that old versions take is 32 MiB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
THRESHOLDS = (1 << 30, 32 << 20)
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors on the CPU free, for the next ones.

    glibc gives large blocks back to the system at once and has every page of the next tensor
    cleared anew, which costs a third of a training step. No number changes. Other C libraries are
    left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        any(mallopt(M_MMAP_THRESHOLD, size) for size in THRESHOLDS)
        mallopt(M_TRIM_THRESHOLD, NEVER)


def use_deterministic_algorithms(device: torch.device, wanted: bool) -> None:
    """Let CUDA repeat every number exactly from now on; a CPU does so anyway.

    Slower, and an operation without a deterministic algorithm raises RuntimeError. cuBLAS reads
    its variable when it is first used, so call this before anything is computed.
    """
    if device.type == "cuda":
        if wanted:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(wanted)


def use_precision(device: torch.device, precision: str) -> None:
    """Let CUDA multiply float32 numbers with all their bits from now on, or for ``tf32`` with 11.

    PyTorch's own choice is TensorFloat-32 for convolutions alone.
    """
    if device.type == "cuda":
        backends: Any = torch.backends  # whose types do not know these settings
        for one in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            one.fp32_precision = "tf32" if precision == "tf32" else "ieee"


def describe_device(device: torch.device) -> str:
    """Return the device's name for the records, with the GPU's model or the CPU's threads."""
    if device.type == "cuda":
        here = torch.cuda.is_available()
        return f"{device} ({torch.cuda.get_device_name(device)})" if here else str(device)
    threads = torch.get_num_threads()
    plural = "" if threads == 1 else "s"
    return f"{device} ({threads} thread{plural})" if device.type == "cpu" else str(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context of a forward pass: bfloat16 autocast for ``bf16``, else nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
