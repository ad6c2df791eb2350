"""A library's model in the place of one of the zoo, with its own parameter names."""

from typing import Any

from torch import Tensor, nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.features import Classifier

# What a module's parameters, buffers and children are kept in.
TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class Borrowed(Classifier):
    """A Classifier around a module ``library`` that gives logits.

    A child of its own would put a prefix before every name, and no published file would fit. So
    the wrapper shares the library's tables of parameters, buffers and children: every name is the
    library's, for state dicts, optimisers and ``functional_call`` alike, and whatever is changed
    through one is changed for both.
    """

    library: nn.Module

    def __init__(self, library: nn.Module, **own: Any) -> None:
        """Wrap the library's model; ``own`` are further attributes of the wrapper.

        Raises UserError where a child or parameter has the name of one of these or of a method.
        """
        super().__init__()
        for table in TABLES:
            self.__dict__[table] = library.__dict__[table]
        own |= {"library": library, "training": library.training}
        for name, value in own.items():
            # Past nn.Module's setter, which would write to the library's tables.
            object.__setattr__(self, name, value)
        names = {**self._parameters, **self._buffers, **self._modules}
        taken = next((name for name in names if name in own or hasattr(type(self), name)), None)
        if taken is not None:
            raise UserError(
                f"{type(library).__name__} has a part named {taken!r}, which is a word of rkkd's "
                "own; give it another name"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the library's logits (B, num_classes)."""
        logits: Tensor = self.library(x)
        return logits

    def train(self, mode: bool = True) -> "Borrowed":
        """Set the mode of the library's model, whose flag is not among its children's."""
        self.training = mode
        self.library.train(mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the library's state dict, with its version marks."""
        return self.library.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Some libraries translate older files here.
        self.library._load_from_state_dict(*args, **kwargs)
