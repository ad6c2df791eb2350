"""Methods' own settings: parsed, checked and refused with a sentence; methods of the user's."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.methods import METHODS, DistillInputs, ModelPair, build_objective, check_settings
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import build_model

PLUGIN_CODE = '''
from rkkd_cli.methods import FrozenConfig, Method


class LogitMSEConfig(FrozenConfig):
    weight: float = 2.0


class LogitMSE(Method):
    """CE + weight times the mean squared error of the logits."""

    Config = LogitMSEConfig
    terms = ("logit_mse",)

    def term_weights(self, epoch):
        return {"logit_mse": self.config.weight}

    def forward(self, inputs):
        student, teacher = self.logits(inputs)
        return {"logit_mse": (student - teacher).square().mean()}


class Shouting(LogitMSE):
    terms = ("Logit MSE",)


class Taken(LogitMSE):
    terms = ("kl",)


class Late(LogitMSE):
    """Nothing is optimised in the first epochs."""

    def default_weights(self):
        return {}

    def term_weights(self, epoch):
        return {"logit_mse": float(epoch > 2)}


def function(method_config, config, pair):
    return None
'''


@pytest.fixture
def plugin_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_methods_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PLUGIN_CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return name


def build(pair: ModelPair, **table: Any) -> dict[str, float]:
    """Check and build a method as before a run, and return its weights after any warm-up."""
    method_config = MethodConfig.model_validate(table)
    check_settings(method_config)
    return build_objective(method_config, RankConfig(), pair).loss_weights(epoch=100)


def test_settings_are_read_from_the_section_of_the_method(digits_pair: ModelPair) -> None:
    weights = build(digits_pair, name="dkd", dkd={"beta": 2.5, "warmup_epochs": 0})
    assert (weights["tckd"], weights["nckd"]) == (1.0, 2.5)
    weights = build(digits_pair, name="dist", dkd={"beta": 2.5}, dist={"gamma": 0.5})
    assert (weights["dist_inter"], weights["dist_intra"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"name": "dkd", "dkd": {"bta": 1.0}}, "unknown key 'method.dkd.bta'; did you mean"),
        ({"name": "kd", "dkd": {"bta": 1.0}}, "unknown key 'method.dkd.bta'"),
        ({"name": "dkd", "dkd": {"beta": -1.0}}, "method.dkd.beta = -1.0: must be greater"),
        ({"name": "dkd", "dkd": {"beta": "x"}}, "method.dkd.beta = 'x': must be a number"),
        (
            {"name": "kd", "dkdd": {}},
            "there is no method 'dkdd'; did you mean method.dkd",
        ),
        ({"name": "simkd", "simkd": {"projectors": "first"}}, "method.simkd.projectors = 'first'"),
        ({"name": "nowhere.to:Find"}, "nowhere.to"),
        ({"name": "a b:c"}, "package.module:name"),
    ],
)
def test_mistakes_are_refused(table: dict[str, Any], sentence: str, digits_pair: ModelPair) -> None:
    with pytest.raises(UserError) as refusal:
        build(digits_pair, **table)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_building_an_objective_reads_its_own_methods_section_alone(digits_pair: ModelPair) -> None:
    wrong_elsewhere = MethodConfig.model_validate({"name": "kd", "dkd": {"bta": 1.0}})
    build_objective(wrong_elsewhere, RankConfig(), digits_pair)
    with pytest.raises(UserError, match=r"unknown key 'method\.dkd\.bta'"):
        check_settings(wrong_elsewhere)
    wrong_here = MethodConfig.model_validate({"name": "dkd", "dkd": {"bta": 1.0}})
    with pytest.raises(UserError, match=r"unknown key 'method\.dkd\.bta'"):
        build_objective(wrong_here, RankConfig(), digits_pair)


def test_the_hint_must_be_a_map_of_both_models(digits_pair: ModelPair) -> None:
    with pytest.raises(UserError, match=r"hint_layer = 2: the pair has 2 maps in common"):
        build(digits_pair, name="fitnet")
    assert build(digits_pair, name="fitnet", fitnet={"hint_layer": 1})["hint"] == 100.0


def test_reviewkd_wants_equally_many_stages() -> None:
    models = [build_model(name, 10) for name in ("resnet8", "cnn2")]
    pair = ModelPair(models[0], models[1], 3, (32, 32), torch.arange(10))
    with pytest.raises(UserError, match="the student has 3 stages, the teacher 1"):
        build(pair, name="reviewkd")


def test_a_users_own_method_is_used(plugin_module: str, digits_pair: ModelPair) -> None:
    name = f"{plugin_module}:LogitMSE"
    assert build(digits_pair, name=name) == {"ce": 1.0, "kl": 0.0, "logit_mse": 2.0}
    weights = build(digits_pair, name=name, plugin={"weight": 5.0})
    assert weights["logit_mse"] == 5.0


@pytest.mark.parametrize(
    ("attribute", "table", "sentence"),
    [
        ("LogitMSEE", {}, "did you mean"),
        ("function", {}, "no subclass of rkkd_cli.methods.Method"),
        ("Shouting", {}, "a term is named 'Logit MSE'"),
        ("Taken", {}, "the term 'kl' has the name of another column"),
        ("LogitMSE", {"plugin": {"wight": 1.0}}, "unknown key 'method.plugin.wight'"),
    ],
)
def test_what_is_wrong_with_a_users_own_method_is_said(
    attribute: str,
    table: dict[str, Any],
    sentence: str,
    plugin_module: str,
    digits_pair: ModelPair,
) -> None:
    with pytest.raises(UserError) as refusal:
        build(digits_pair, name=f"{plugin_module}:{attribute}", **table)
    assert sentence in str(refusal.value)


def test_an_epoch_may_have_nothing_to_optimise(plugin_module: str, digits_pair: ModelPair) -> None:
    method_config = MethodConfig(name=f"{plugin_module}:Late")
    objective = build_objective(method_config, RankConfig(), digits_pair)
    logits = torch.randn(4, 10, requires_grad=True)
    inputs = DistillInputs(
        logits_only(logits),
        logits_only(torch.randn(4, 10)),
        Targets(torch.arange(4)),
        torch.arange(4),
    )
    losses = objective.loss(inputs)
    torch.autograd.backward(losses.total)
    assert losses.method_terms["logit_mse"] > 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_every_method_says_what_it_is() -> None:
    assert all(method.__doc__ for method in METHODS.values())
