"""Wraps a model of another library as a classifier, under the library's own parameter names."""

from typing import Any

from torch import Tensor, nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.features import Classifier

# Where a module keeps its parameters, buffers and children.
TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class WrappedModel(Classifier):
    """A Classifier around a module ``library`` that returns logits.

    As a child, the module would put a prefix before every key, and no published file would fit.
    Instead the wrapper shares the module's tables of parameters, buffers and children. So all names
    are the library's, for state dicts, optimisers and ``functional_call``, and a change through one
    of the two changes both.
    """

    library: nn.Module

    def __init__(self, library: nn.Module, **attributes: Any) -> None:
        """Wrap the library's model; ``attributes`` are further attributes of the wrapper.

        Raises UserError if a child or parameter has the name of an attribute or a method.
        """
        super().__init__()
        for table in TABLES:
            self.__dict__[table] = library.__dict__[table]
        attributes |= {"library": library, "training": library.training}
        for name, value in attributes.items():
            # Not through nn.Module's setter, which would write to the library's tables.
            object.__setattr__(self, name, value)
        names = {**self._parameters, **self._buffers, **self._modules}
        reserved = next((n for n in names if n in attributes or hasattr(type(self), n)), None)
        if reserved is not None:
            raise UserError(
                f"{type(library).__name__} has a part named {reserved!r}, which rkkd reserves; "
                "give it another name"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the library's logits (B, num_classes)."""
        logits: Tensor = self.library(x)
        return logits

    def train(self, mode: bool = True) -> "WrappedModel":
        """Set the mode of wrapper and library; the library is not among the wrapper's children."""
        self.training = mode
        self.library.train(mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the library's state dict, with its version marks."""
        return self.library.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Some libraries upgrade older files here.
        self.library._load_from_state_dict(*args, **kwargs)
