"""Comparison with the values of the published implementations, losses.json."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from closed_form import build, summary
from torch import Tensor

RECORD = Path(__file__).with_name("losses.json")
Loss = Callable[[dict[str, Tensor], dict[str, Any]], Tensor]


@cache
def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return content


def assert_published(name: str, loss: Loss) -> None:
    """Compare value and gradients of ``loss(inputs, settings)`` with each case of that name."""
    cases = [case for case in record()["cases"] if case["loss"] == name]
    assert cases, f"no published case of {name}"
    for case in cases:
        inputs = {key: build(recipe) for key, recipe in case["inputs"].items()}
        for key in case["output"]["gradients"]:
            inputs[key].requires_grad_()
        ours = summary(loss(inputs, case["settings"]), inputs)
        where = f"{name} of {case['source']}, {case['settings']}, {case['inputs']}"
        assert ours["gradients"].keys() == case["output"]["gradients"].keys(), where
        assert flatten(ours) == pytest.approx(flatten(case["output"]), rel=1e-10, abs=1e-12), where


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            numbers |= flatten(value, f"{prefix}{key}.")
        else:
            numbers[prefix + key] = value
    return numbers
