"""What stands in for the harmless objects that training scripts save beside the weights.

A pickle is a program: it names classes and functions, and reading it calls them. PyTorch's
restricted reader calls only what is on a list. Scripts of the field save options (argparse's
Namespace), learning rates (numpy scalars), paths and histories beside their weights, and a reader
that refused these would refuse most files. So their names are on the list here, but none of them
leads to the real class: each leads to a stand-in that runs nothing and keeps nothing but the
attributes, as a plain dict. Whatever a file does with such a name, no code of argparse, numpy or
pathlib runs, not even numpy's parsing of bytes. Every other name is refused.
"""

from typing import Any


class Inert:
    """Takes any arguments and any state, does nothing, and keeps attributes as data.

    Without ``__dict__`` (slots), so that a state cannot put a method of its own choice into the
    instance, which the reader would then call.
    """

    __slots__ = ("attributes",)

    attributes: dict[Any, Any]

    def __new__(cls, *args: Any) -> "Inert":
        """Return an empty one, whatever it is made from."""
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __init__(self, *args: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes, if the state is made of them."""
        if type(state) is dict:
            self.attributes = state


class InertDict:
    """What a subclass of dict is read as: a plain, empty dict, which the reader then fills."""

    def __new__(cls, *args: Any) -> Any:
        """Return a dict; a default factory is left out."""
        return {}


OPTIONS = ("argparse.Namespace", "types.SimpleNamespace")

NUMPY = (
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
)

# As default factories and as the types of options.
TYPES = tuple(
    f"builtins.{kind.__name__}"
    for kind in (bool, dict, float, frozenset, int, list, range, slice, str, tuple)
)

PATHS = tuple(
    f"{module}.{system}"
    for module in ("pathlib", "pathlib._local")
    for system in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
)

# Lightning before 1.5 kept the states of its callbacks under their classes.
CALLBACKS = tuple(
    f"pytorch_lightning.callbacks.{name}"
    for name in (
        "early_stopping.EarlyStopping",
        "lr_monitor.LearningRateMonitor",
        "model_checkpoint.ModelCheckpoint",
    )
)

DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)

STAND_INS: list[Any] = [
    *((Inert, name) for name in (*OPTIONS, *NUMPY, *TYPES, *PATHS, *CALLBACKS)),
    *((InertDict, name) for name in DICTS),
]
