"""Adapts a library's model to other images than those it was made for."""

from collections.abc import Callable

import torch
from torch import nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.external.feature_plan import trace

MAX_SUGGESTED_SIDE = 512


def replace_stem(model: nn.Module, in_channels: int) -> None:
    """Give the model's first convolution ``in_channels`` inputs.

    If their number changes, the weights are drawn anew from a normal distribution with the standard
    deviation of the library's own initialisation.
    """
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == in_channels:
        return
    assert conv.groups == 1, f"the stem {name} has groups"
    shape = (conv.out_channels, in_channels, *conv.kernel_size)
    drawn = torch.randn(shape, device=conv.weight.device, dtype=conv.weight.dtype)
    conv.weight = nn.Parameter(drawn * conv.weight.detach().std())
    conv.in_channels = in_channels


def build_on_default_device(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the result of ``build`` on the default device, even if that is the meta device.

    Some libraries compute widths with tensors while they build a model, which meta tensors cannot
    do. Such models are built on the CPU first.
    """
    if torch.get_default_device().type != "meta":
        return build()
    try:
        return build()
    except (NotImplementedError, RuntimeError):  # raised by meta tensors when values are needed
        with torch.device("cpu"):
            model = build()
        return model.to("meta")


def check_size(
    name: str, model: nn.Module, in_channels: int, size: tuple[int, int], search: bool = True
) -> None:
    """Raise UserError if the model cannot take images of this height and width.

    With ``search`` the message suggests a size that it takes, the next larger multiple of 8: its
    sides can be halved three times.
    """
    if _accepts(model, in_channels, size):
        return
    larger = range(max(size) // 8 * 8 + 8, MAX_SUGGESTED_SIDE + 1, 8) if search else ()
    smallest = next((side for side in larger if _accepts(model, in_channels, (side, side))), None)
    hint = f"; it takes {smallest}×{smallest}" if smallest else ""
    raise UserError(f"model {name} cannot take {size[0]}×{size[1]} images{hint}")


def _accepts(model: nn.Module, in_channels: int, size: tuple[int, int]) -> bool:
    try:
        trace(model, (2, in_channels, *size))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True
