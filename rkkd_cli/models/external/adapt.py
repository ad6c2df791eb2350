"""What a library's model needs to take other images than it was made for."""

from collections.abc import Callable

import torch
from torch import nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.external.feature_plan import trace

LARGEST_TRIED = 512  # pixels a side, in search of a size that a model takes


def replace_stem(model: nn.Module, in_channels: int) -> None:
    """Give the model's first convolution ``in_channels`` inputs.

    Nothing changes for as many as it has. Otherwise its weights are drawn anew, from a normal
    distribution of the spread that the library's own draw has.
    """
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == in_channels:
        return
    assert conv.groups == 1, f"the stem {name} has groups"
    shape = (conv.out_channels, in_channels, *conv.kernel_size)
    drawn = torch.randn(shape, device=conv.weight.device, dtype=conv.weight.dtype)
    conv.weight = nn.Parameter(drawn * conv.weight.detach().std())
    conv.in_channels = in_channels


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """Return what ``build`` makes, on the meta device too where that is the default one.

    Some libraries compute widths with tensors while they build, which meta tensors cannot do:
    those are built on the CPU first.
    """
    if torch.get_default_device().type != "meta":
        return build()
    try:
        return build()
    except (NotImplementedError, RuntimeError):  # what meta tensors raise when asked for numbers
        with torch.device("cpu"):
            model = build()
        return model.to("meta")


def check_size(
    name: str, model: nn.Module, in_channels: int, size: tuple[int, int], search: bool = True
) -> None:
    """Raise UserError where the model cannot take images of this height and width.

    With ``search`` it names a size that the model takes, the next larger multiple of 8.
    """
    if _takes(model, in_channels, size):
        return
    larger = _sides(max(size)) if search else range(0)
    sides = (side for side in larger if _takes(model, in_channels, (side, side)))
    smallest = next(sides, None)
    hint = f"; it takes {smallest}×{smallest}" if smallest else ""
    raise UserError(f"model {name} cannot take {size[0]}×{size[1]} images{hint}")


def _takes(model: nn.Module, in_channels: int, size: tuple[int, int]) -> bool:
    try:
        trace(model, (2, in_channels, *size))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True


def _sides(start: int) -> range:
    """Return sides worth a try: the multiples of 8 above, whose halves are whole three times."""
    return range(start - start % 8 + 8, LARGEST_TRIED + 1, 8)
