"""Plans where an unknown network's features are, from a dry run of it.

Of its many feature maps, the plan takes one for each of the network's stages.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor, nn

from rkkd_cli.models.external.feature_hooks import FeaturePlan, MapHook, TailModule
from rkkd_cli.models.shapes import dry_run

Shape = tuple[int, ...]
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
PASSIVE = (nn.Dropout, nn.Flatten, nn.Identity)
MAX_SPACED_MAPS = 4  # of a network without stages, such as a vision transformer


class ModuleCall(NamedTuple):
    """A module's last call in a forward pass, with the shapes of its input and output."""

    name: str
    module: nn.Module
    input_shape: Shape
    output_shape: Shape


class Trace(NamedTuple):
    """The calls of a forward pass in the order in which they returned, and its output's shape."""

    calls: list[ModuleCall]
    output_shape: Shape | None


def trace(model: nn.Module, shape: Shape) -> Trace:
    """Return the calls of a dry run on images of a shape. Raises whatever the model raises."""
    names = {module: name for name, module in model.named_modules()}
    calls: dict[nn.Module, ModuleCall] = {}

    def run(x: Tensor) -> Any:
        calls.clear()
        return model(x)

    def record(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        calls.pop(module, None)  # of a module that is called twice, the last call counts
        if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
            shapes = tuple(arguments[0].shape), tuple(output.shape)
            calls[module] = ModuleCall(names[module], module, *shapes)

    with ExitStack() as hooks:
        for module in names:
            hooks.enter_context(module.register_forward_hook(record))
        output = dry_run(model, run, shape)
    return Trace(list(calls.values()), tuple(output.shape) if isinstance(output, Tensor) else None)


def make_plan(model: nn.Module, traced: Trace, image_size: tuple[int, int]) -> FeaturePlan | None:
    """Return the plan of a network's features, or None if it has no linear layer or convolution."""
    heads = [call for call in traced.calls if isinstance(call.module, nn.Linear | nn.Conv2d)]
    if not heads:
        return None
    head = heads[-1]
    trunk = set(trunk_names(model))
    before_head = traced.calls[: traced.calls.index(head)]
    calls = [c for c in before_head if c.name in trunk and _map_size(c, image_size)]
    sizes = [_map_size(call, image_size) or (1, 1) for call in calls]
    ends = [calls[index] for index in stage_ends(sizes, image_size)]
    maps = tuple(MapHook(call.name, _layout(call.output_shape, image_size)) for call in ends)
    return _with_final(FeaturePlan(maps, head.name), model, traced, head)


def trunk_names(model: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of the modules that the forward pass calls one after another.

    These are the children, and the children of plain containers. Modules deeper inside are inner
    parts of blocks: branches, gates, attention.
    """
    for name, child in model.named_children():
        yield prefix + name
        if isinstance(child, CONTAINERS):
            yield from trunk_names(child, f"{prefix}{name}.")


def _with_final(
    plan: FeaturePlan, model: nn.Module, traced: Trace, head: ModuleCall
) -> FeaturePlan:
    """Add the final map and the modules after its average pooling, if the modules show them."""
    names = list(trunk_names(model))
    leaves = {name for name in names if not any(n.startswith(f"{name}.") for n in names)}
    steps = [call for call in traced.calls if call.name in leaves]
    parents = (i for i, c in enumerate(steps) if f"{head.name}.".startswith(f"{c.name}."))
    first_tail = next(parents, None)
    if first_tail is None or not plan.maps:
        return plan
    pools = [i for i, call in enumerate(steps[:first_tail]) if _is_average_pool(call)]
    if pools:
        pool, tail = steps[pools[-1]], steps[pools[-1] + 1 :]
        return plan._replace(tail=_tail(tail), final=MapHook(pool.name), final_is_input=True)
    while first_tail and isinstance(steps[first_tail - 1].module, PASSIVE):
        first_tail -= 1
    last_hook = plan.maps[-1]
    last_map = next(call for call in traced.calls if call.name == last_hook.module)
    width = last_map.output_shape[1 if last_hook.layout == "map" else 3]
    if steps[first_tail].input_shape[1:] != (width,):
        return plan
    return plan._replace(tail=_tail(steps[first_tail:]), final=last_hook)


def _is_average_pool(call: ModuleCall) -> bool:
    is_adaptive = isinstance(call.module, nn.AdaptiveAvgPool2d)
    return is_adaptive and len(call.input_shape) == 4 and call.output_shape[2:] == (1, 1)


def _tail(calls: list[ModuleCall]) -> tuple[TailModule, ...]:
    return tuple(TailModule(call.name, flat=len(call.input_shape) == 2) for call in calls)


def _layout(shape: Shape, image_size: tuple[int, int]) -> str:
    """Tell (B, D, H, W) from (B, H, W, D): H and W have the proportions of the image."""
    is_rows = _same_proportions(shape[1:3], image_size)
    return "rows" if is_rows and not _same_proportions(shape[2:], image_size) else "map"


def _same_proportions(size: Shape, image_size: tuple[int, int]) -> bool:
    """Return whether a size has the image's proportions, up to about one pixel."""
    height, width = size
    return abs(height * image_size[1] - width * image_size[0]) <= max(image_size)


def _map_size(call: ModuleCall, image_size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the height and width of a call's map, or None if its output is no map.

    Ignores adaptive pooling, whose size says nothing about a stage, and dropout.
    """
    shape = call.output_shape
    if len(shape) != 4 or isinstance(call.module, nn.AdaptiveAvgPool2d | nn.Dropout):
        return None
    height, width = shape[1:3] if _layout(shape, image_size) == "rows" else shape[2:]
    return None if (height, width) == (1, 1) else (height, width)


def stage_ends(sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> list[int]:
    """Return the index of the last map of each stage, given the maps' sizes in order.

    Maps of one stage have about the same ratio to the image size, rounded to a power of two:
    convolutions without padding shrink maps a little within a stage. Maps that grow again are
    ignored.
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
    """Return up to ``MAX_SPACED_MAPS`` evenly spaced indices below ``count``, with the last."""
    parts = min(MAX_SPACED_MAPS, count)
    return [-(-count * part // parts) - 1 for part in range(1, parts + 1)]
