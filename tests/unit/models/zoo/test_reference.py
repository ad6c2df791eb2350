"""The zoo against the field's own code: equal names, shapes, logits and maps for equal weights.

``tests/reference/make_models.py`` wrote the numbers, from the repositories it names.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import fill
import pytest
import torch
from torch import Tensor

from rkkd_cli.models import MODELS, build_model

ANSWERS: list[dict[str, Any]] = json.loads(
    Path(fill.__file__).with_name("models.json").read_text(encoding="utf-8")
)
OURS_ALONE = {"digits_teacher", "digits_student", "cnn2"}
assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def answers(name: str) -> list[dict[str, Any]]:
    return [answer for answer in ANSWERS if answer["model"] == name]


def same_maps(maps: tuple[Tensor, ...], expected: list[tuple[list[int], float]]) -> None:
    assert [list(m.shape[1:]) for m in maps] == [shape for shape, _ in expected]
    sums = torch.stack([m.abs().sum() for m in maps])
    assert_close(sums, torch.tensor([s for _, s in expected], dtype=torch.float64))


def test_every_published_architecture_has_its_reference() -> None:
    assert {answer["model"] for answer in ANSWERS} == MODELS.keys() - OURS_ALONE


@pytest.mark.parametrize("name", [name for name in MODELS if name not in OURS_ALONE])
def test_names_shapes_logits_and_maps_are_the_references(name: str) -> None:
    model = build_model(name, 100)
    fill.fill(model)
    with torch.no_grad():
        features = model.forward_features(fill.images())
    assert answers(name)
    for answer in answers(name):
        assert fill.digest(model.state_dict()) == answer["names"]
        logits = torch.tensor(answer["logits"], dtype=torch.float64)
        assert_close(features.logits[:, ::11].flatten(), logits)
        assert features.logits.abs().sum().item() == pytest.approx(
            answer["logits_abs_sum"], rel=1e-10
        )
        assert features.pooled.sum().item() == pytest.approx(answer["pooled_sum"], rel=1e-9)
        same_maps(features.maps, answer["maps"])
        same_maps(features.preacts, answer["preacts"])
