"""Stubs for the harmless objects that training scripts save beside the weights.

A pickle is a program: it names classes and functions, and unpickling calls them. PyTorch's
restricted unpickler calls only what is on a list. The field's scripts save options (argparse's
Namespace), learning rates (numpy scalars), paths and histories beside the weights, so refusing
these would refuse most files. Their names are on the list here, but none of them leads to the real
class: each leads to a stub that runs nothing and keeps nothing but the attributes, as a plain dict.
No code of argparse, numpy or pathlib runs, not even numpy's parsing of bytes. Every other name is
refused.
"""

from collections import OrderedDict
from typing import Any


class Stub:
    """Takes any arguments and any state, does nothing, and keeps attributes as data.

    It has slots and no ``__dict__``: a state could otherwise put a method of its choice into the
    instance, which the unpickler would then call.
    """

    __slots__ = ("attributes",)

    attributes: dict[Any, Any]

    def __new__(cls, *args: Any) -> "Stub":
        """Return a stub without attributes, whatever the arguments."""
        stub = super().__new__(cls)
        stub.attributes = {}
        return stub

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes if the state is a dict of attributes."""
        if type(state) is dict:
            self.attributes = state


class DictStub:
    """Replaces subclasses of dict by an empty OrderedDict, which the unpickler then fills.

    A plain dict would not do: the unpickler gives it no attributes, which some subclasses have.
    """

    def __new__(cls, *args: Any) -> Any:
        """Return a dict; ignore a default factory."""
        return OrderedDict()


class ListStub:
    """Replaces list-like containers by a list, which the unpickler then fills."""

    def __new__(cls, *args: Any) -> Any:
        """Return a list; ignore a first content or a maximal length."""
        return []


OPTIONS = ("argparse.Namespace", "types.SimpleNamespace")

NUMPY = (
    "numpy.dtype", "numpy.ndarray",
    "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct",
)  # fmt: skip

# Used as default factories and as the types of options.
TYPES = tuple(
    f"builtins.{kind.__name__}"
    for kind in (bool, dict, float, frozenset, int, list, range, slice, str, tuple)
)

PATHS = tuple(
    f"{module}.{system}"
    for module in ("pathlib", "pathlib._local")
    for system in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
)

# When and where a file was written, and exact numbers.
VALUES = (
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    "decimal.Decimal", "uuid.UUID", "uuid.SafeUUID",
)  # fmt: skip

# The nodes of OmegaConf, as Hydra's options.
OMEGACONF = (
    "typing.Any", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{kind}Node"
      for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")),
)  # fmt: skip

# Lightning before 1.5 kept the states of its callbacks under their classes.
CALLBACKS = (
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)

DICTS = (
    "addict.addict.Dict",
    "collections.defaultdict",
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)

LISTS = ("collections.deque",)

STUBS: list[Any] = [
    *((Stub, name) for name in (*OPTIONS, *NUMPY, *TYPES, *PATHS, *VALUES, *OMEGACONF, *CALLBACKS)),
    *((DictStub, name) for name in DICTS),
    *((ListStub, name) for name in LISTS),
]
