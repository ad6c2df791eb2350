"""Features of any network that gives logits: read off its modules while it runs.

Which modules, a dry run tells; hooks on the instance, for the one call, read them. The network's
own forward runs, so its logits are its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any, NamedTuple

from torch import Tensor, nn

from rkkd_cli.models.external.wrapper import Borrowed
from rkkd_cli.models.features import Features
from rkkd_cli.models.zoo.blocks import average


class Tap(NamedTuple):
    """A module's output as a map (B, D, H, W).

    ``layout``: ``map`` (B, D, H, W), ``rows`` (B, H, W, D), or ``tokens`` (B, 1 + H · W, D) of a
    square of patches after a class token.
    """

    module: str
    layout: str = "map"


class Step(NamedTuple):
    """A module between the pooled features and the logits; ``flat``: its input is (B, D)."""

    module: str
    flat: bool


class Plan(NamedTuple):
    """Where a network's features are.

    ``head`` is its last linear layer, whose input is the pooled features. ``tail`` are the modules
    after the average over the places of the final map; ``final`` says whose output (``before``
    false) or whose input (true) that map is. Without such an average, ``final`` is None.
    """

    taps: tuple[Tap, ...]
    head: str
    tail: tuple[Step, ...] = ()
    final: Tap | None = None
    before: bool = False


class Tapped(Borrowed):
    """A network with a plan of where its features are. It has no ``preacts``."""

    plan: Plan

    def __init__(self, library: nn.Module, plan: Plan) -> None:
        super().__init__(library, plan=plan)

    def forward_features(self, x: Tensor) -> Features:
        """Return one map per stage, the head's input, the logits and the averaged map."""
        plan = self.plan
        outputs = {tap.module for tap in plan.taps}
        inputs = {plan.head}
        if plan.final is not None:
            (inputs if plan.before else outputs).add(plan.final.module)
        with reading(self.library, outputs, inputs) as (given, taken):
            logits: Tensor = self.library(x)
        maps = tuple(as_map(given[tap.module], tap.layout) for tap in plan.taps)
        final = None
        if plan.final is not None:
            read = taken if plan.before else given
            final = as_map(read[plan.final.module], plan.final.layout)
        return Features(maps, as_pooled(taken[plan.head]), logits, (), final)

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits of a final map (B, D, H, W). Raises UserError if there is none."""
        if self.plan.final is None:
            return super().classify(final)
        x = final.mean(dim=(2, 3), keepdim=True)
        for step in self.plan.tail:
            x = self.library.get_submodule(step.module)(x.flatten(1) if step.flat else x)
        return x


@contextmanager
def reading(
    model: nn.Module, outputs: set[str], inputs: set[str]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Give two dicts that fill while the model runs: these modules' outputs, and these inputs."""
    given: dict[str, Tensor] = {}
    taken: dict[str, Tensor] = {}

    def keep_output(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
            given[name] = output

        return hook

    def keep_input(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            taken[name] = arguments[0]

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(keep_output(name)) for name in outputs
    ] + [model.get_submodule(name).register_forward_pre_hook(keep_input(name)) for name in inputs]
    try:
        yield given, taken
    finally:
        for handle in handles:
            handle.remove()


def as_map(output: Tensor, layout: str) -> Tensor:
    """Return an output of a :class:`Tap`'s layout as a map (B, D, H, W)."""
    if layout == "rows":
        return output.permute(0, 3, 1, 2)
    if layout == "tokens":
        side = isqrt(output.shape[1] - 1)
        return output[:, 1:].transpose(1, 2).reshape(-1, output.shape[2], side, side)
    return output


def as_pooled(read: Tensor) -> Tensor:
    """Return what a head reads as (B, D): averaged over places or tokens, if it has any."""
    if read.ndim == 4:
        return average(read)
    return read.mean(dim=1) if read.ndim == 3 else read
