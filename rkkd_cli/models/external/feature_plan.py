"""The plan of an unknown network's features, from a dry run of it.

Of its many feature maps those are taken that stand for the network's stages.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rkkd_cli.models.external.feature_hooks import Plan, Step, Tap
from rkkd_cli.models.shapes import dry_run

Shape = tuple[int, ...]
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
SPREAD = 4  # how many maps a network without stages gives, such as a vision transformer


class Call(NamedTuple):
    """A module's last call in a pass: its name and the shapes of what it took and gave."""

    name: str
    module: nn.Module
    taken: Shape
    given: Shape


class Trace(NamedTuple):
    """The calls of a pass in the order in which they ended, and the shape of its output."""

    calls: list[Call]
    output: Shape | None


def trace(model: nn.Module, shape: Shape) -> Trace:
    """Return the calls of a dry run on images of a shape. Raises what the model raises."""
    calls: dict[str, Call] = {}

    def run(x: Tensor) -> Any:
        calls.clear()
        return model(x)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            handle = module.register_forward_hook(_recorder(calls, name))
            stack.callback(handle.remove)
        output = dry_run(model, run, shape)
    return Trace(list(calls.values()), tuple(output.shape) if _is_tensor(output) else None)


def _recorder(calls: dict[str, Call], name: str) -> Any:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        calls.pop(name, None)  # a module called twice stands where it ended last
        if arguments and _is_tensor(arguments[0]) and _is_tensor(output):
            calls[name] = Call(name, module, tuple(arguments[0].shape), tuple(output.shape))

    return hook


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def make_plan(model: nn.Module, traced: Trace, image_size: tuple[int, int]) -> Plan | None:
    """Return the plan of a network's features, or None if no linear layer ends it."""
    heads = [call for call in traced.calls if isinstance(call.module, nn.Linear | nn.Conv2d)]
    if not heads:
        return None
    head = heads[-1]
    trunk = set(trunk_names(model))
    before = traced.calls[: traced.calls.index(head)]
    maps = [call for call in before if call.name in trunk and _size(call, image_size)]
    sizes = [_size(call, image_size) or (1, 1) for call in maps]
    ends = [maps[index] for index in stage_ends(sizes, image_size)]
    taps = tuple(Tap(call.name, _layout(call.given, image_size)) for call in ends)
    return _with_final(Plan(taps, head.name), model, traced, head)


def trunk_names(model: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of the modules that the forward pass calls one after the other.

    Those are the children, and the children of plain containers. What lies deeper are a block's
    inner parts: branches, gates, attention.
    """
    for name, child in model.named_children():
        yield prefix + name
        if isinstance(child, CONTAINERS):
            yield from trunk_names(child, f"{prefix}{name}.")


def _with_final(plan: Plan, model: nn.Module, traced: Trace, head: Call) -> Plan:
    """Add the final map and what follows its average, where the modules tell."""
    steps = [call for call in traced.calls if call.name in set(_leaves(model))]
    holder = next((i for i, call in enumerate(steps) if _holds(call.name, head.name)), None)
    if holder is None or not plan.taps:
        return plan
    pools = [i for i, call in enumerate(steps[:holder]) if _averages(call)]
    if pools:
        pool = steps[pools[-1]]
        tail = steps[pools[-1] + 1 :]
        return plan._replace(tail=_tail(tail), final=Tap(pool.name), before=True)
    first = steps[holder]
    while holder and isinstance(steps[holder - 1].module, nn.Dropout | nn.Flatten | nn.Identity):
        holder -= 1
        first = steps[holder]
    last = next(call for call in traced.calls if call.name == plan.taps[-1].module)
    width = last.given[1 if plan.taps[-1].layout == "map" else 3]
    if first.taken[1:] != (width,):
        return plan
    return plan._replace(tail=_tail(steps[holder:]), final=plan.taps[-1])


def _leaves(model: nn.Module) -> Iterator[str]:
    names = list(trunk_names(model))
    return (name for name in names if not any(n.startswith(f"{name}.") for n in names))


def _holds(name: str, inner: str) -> bool:
    return name == inner or inner.startswith(f"{name}.")


def _averages(call: Call) -> bool:
    pools = isinstance(call.module, nn.AdaptiveAvgPool2d)
    return pools and len(call.taken) == 4 and call.given[2:] == (1, 1)


def _tail(calls: list[Call]) -> tuple[Step, ...]:
    return tuple(Step(call.name, len(call.taken) == 2) for call in calls)


def _layout(given: Shape, image_size: tuple[int, int]) -> str:
    """Tell (B, D, H, W) from (B, H, W, D) by which sides have the image's proportions."""
    return "rows" if _alike(given[1:3], image_size) and not _alike(given[2:], image_size) else "map"


def _alike(size: Shape, image_size: tuple[int, int]) -> bool:
    """Whether a size has the proportions of the image, but for a pixel lost on the way."""
    height, width = size
    return abs(height * image_size[1] - width * image_size[0]) <= max(image_size)


def _size(call: Call, image_size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the height and width of a call's map, or None if it gives none.

    Adaptive pooling gives none: its size says nothing of a stage. Nor does dropout.
    """
    if len(call.given) != 4 or isinstance(call.module, nn.AdaptiveAvgPool2d | nn.Dropout):
        return None
    height, width = call.given[1:3] if _layout(call.given, image_size) == "rows" else call.given[2:]
    return None if (height, width) == (1, 1) else (height, width)


def stage_ends(sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> list[int]:
    """Return the indices of the maps to take, of maps in the order in which they are computed.

    The last map of every stage; a stage is what has about the same ratio to the image (powers of
    two, rounded: convolutions without padding shrink maps a little within a stage). Maps that grow
    again are left out.
    """
    last: dict[int, int] = {}
    deepest = -1
    for index, (height, width) in enumerate(sizes):
        ratio = math.sqrt(image_size[0] * image_size[1] / (height * width))
        stage = max(0, round(math.log2(ratio)))
        if stage >= deepest:
            deepest = stage
            last[stage] = index
    return sorted(last.values())


def evenly_spaced(count: int) -> list[int]:
    """Return the indices of at most SPREAD of ``count`` things, the last one among them."""
    taken = min(SPREAD, count)
    return [-(-count * (number + 1) // taken) - 1 for number in range(taken)]
