"""The device of a run, its threads and its precision."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

from rkkd_cli.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return a device by its name: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto``.

    ``auto`` is CUDA, else MPS, else the CPU.

    Raises UserError if there is no such device.
    """
    if name == "auto":
        return torch.device(_best_device_type())
    kind = name.partition(":")[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or kind not in ("cpu", "cuda", "mps"):
        raise UserError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps")
    count = torch.cuda.device_count() if kind == "cuda" else int(_is_available(kind))
    if (device.index or 0) >= count:
        raise UserError(
            f"device {name} is not available on this machine; use --device auto or "
            f"--device {_best_device_type()}"
        )
    return device


def _best_device_type() -> str:
    return next(kind for kind in ("cuda", "mps", "cpu") if _is_available(kind))


def _is_available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or torch.backends.mps.is_available()


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads that PyTorch uses; None leaves PyTorch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


# From glibc's malloc.h; the largest threshold that old versions accept is 32 MiB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLDS = (1 << 30, 32 << 20)
NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep the memory of freed CPU tensors in this process, for the next tensors.

    By default glibc returns large blocks to the system at once, and the system clears every page
    of the next tensor. That takes a third of a training step. No number changes. Other C libraries
    are left alone.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        any(mallopt(M_MMAP_THRESHOLD, threshold) for threshold in MMAP_THRESHOLDS)
        mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)


def use_deterministic_algorithms(device: torch.device, wanted: bool) -> None:
    """Make CUDA reproduce every number bit for bit. A CPU always does.

    It is slower, and an operation without a deterministic algorithm raises RuntimeError. Call it
    before anything is computed: cuBLAS reads its environment variable on first use.
    """
    if device.type == "cuda":
        if wanted:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(wanted)


def use_precision(device: torch.device, precision: str) -> None:
    """Make CUDA multiply float32 numbers in full precision, or in TensorFloat-32 for ``tf32``.

    PyTorch's default is TensorFloat-32 for convolutions only.
    """
    if device.type == "cuda":
        backends: Any = torch.backends  # its type stubs lack these settings
        for backend in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"


def describe_device(device: torch.device) -> str:
    """Return the device for the records, with the GPU's model or the number of CPU threads."""
    if device.type == "cuda":
        is_here = torch.cuda.is_available()
        return f"{device} ({torch.cuda.get_device_name(device)})" if is_here else str(device)
    threads = torch.get_num_threads()
    plural = "" if threads == 1 else "s"
    return f"{device} ({threads} thread{plural})" if device.type == "cpu" else str(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context of a forward pass: bfloat16 autocast for ``bf16``, else nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
