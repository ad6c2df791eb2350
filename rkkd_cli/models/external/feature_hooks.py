"""Features of any network that returns logits, read by forward hooks.

A plan, made from a dry run, says which modules to read. The hooks exist only for one call, and the
network's own forward pass runs, so its logits do not change.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import isqrt
from typing import NamedTuple

from torch import Tensor, nn

from rkkd_cli.models.external.wrapper import WrappedModel
from rkkd_cli.models.features import Features
from rkkd_cli.models.zoo.blocks import average_pool


class MapHook(NamedTuple):
    """A module whose output (or input) is read as a feature map (B, D, H, W).

    ``layout`` of the tensor: ``map`` (B, D, H, W), ``rows`` (B, H, W, D), or ``tokens``
    (B, 1 + H · W, D), a class token and a square of patches.
    """

    module: str
    layout: str = "map"


class TailModule(NamedTuple):
    """A module between the pooled features and the logits; ``flat``: its input is (B, D)."""

    module: str
    flat: bool


class FeaturePlan(NamedTuple):
    """Where a network's features are.

    Attributes:
        maps: the hooks of the feature maps, from early to late.
        head: the last linear layer, whose input is the pooled features.
        tail: the modules after the average pooling of the final map.
        final: the hook of the final map; None if the network averages no map.
        final_is_input: the final map is the input of ``final``'s module, not its output.

    """

    maps: tuple[MapHook, ...]
    head: str
    tail: tuple[TailModule, ...] = ()
    final: MapHook | None = None
    final_is_input: bool = False


class HookedModel(WrappedModel):
    """A network whose features are read by hooks, as its plan says. It has no ``preacts``."""

    plan: FeaturePlan

    def forward_features(self, x: Tensor) -> Features:
        """Return one map per stage, the head's input, the logits and the final map."""
        plan = self.plan
        read_outputs, read_inputs = {hook.module for hook in plan.maps}, {plan.head}
        if plan.final is not None:
            (read_inputs if plan.final_is_input else read_outputs).add(plan.final.module)
        with capture(self.library, read_outputs, read_inputs) as (outputs, inputs):
            logits: Tensor = self.library(x)
        maps = tuple(as_map(outputs[hook.module], hook.layout) for hook in plan.maps)
        final = None
        if plan.final is not None:
            tensors = inputs if plan.final_is_input else outputs
            final = as_map(tensors[plan.final.module], plan.final.layout)
        return Features(maps, as_pooled(inputs[plan.head]), logits, (), final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a final map (B, D, H, W). Raises UserError if there is none."""
        if self.plan.final is None:
            return super().classify(final)
        x = final.mean(dim=(2, 3), keepdim=True)
        for step in self.plan.tail:
            x = self.library.get_submodule(step.module)(x.flatten(1) if step.flat else x)
        return x


@contextmanager
def capture(
    model: nn.Module, read_outputs: set[str], read_inputs: set[str]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Give two dicts that a forward pass fills: the outputs of modules, and inputs of modules."""
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in read_outputs:
            hook = partial(lambda name, _module, _args, x: outputs.update({name: x}), name)
            hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
        for name in read_inputs:
            hook = partial(lambda name, _module, args: inputs.update({name: args[0]}), name)
            hooks.enter_context(model.get_submodule(name).register_forward_pre_hook(hook))
        yield outputs, inputs


def as_map(tensor: Tensor, layout: str) -> Tensor:
    """Return a tensor of a :class:`MapHook`'s layout as a map (B, D, H, W)."""
    if layout == "rows":
        return tensor.permute(0, 3, 1, 2)
    if layout == "tokens":
        side = isqrt(tensor.shape[1] - 1)
        return tensor[:, 1:].transpose(1, 2).reshape(-1, tensor.shape[2], side, side)
    return tensor


def as_pooled(head_input: Tensor) -> Tensor:
    """Return a head's input as (B, D): averaged over pixels or tokens, if it has any."""
    if head_input.ndim == 4:
        return average_pool(head_input)
    return head_input.mean(dim=1) if head_input.ndim == 3 else head_input
