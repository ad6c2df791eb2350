"""Distillation methods: which terms an arm optimises, with which weights and trainable parts."""

import re

from pydantic import ValidationError

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig, RankConfig
from rkkd_cli.config.validation import sentence_of
from rkkd_cli.errors import UserError, nearest, unknown_name
from rkkd_cli.losses import KendallRankingLoss
from rkkd_cli.methods.at import AT
from rkkd_cli.methods.crd import CRD
from rkkd_cli.methods.ctkd import CTKD
from rkkd_cli.methods.dist import DIST
from rkkd_cli.methods.dkd import DKD
from rkkd_cli.methods.fitnet import FitNet
from rkkd_cli.methods.inputs import DistillInputs, ViewOutputs
from rkkd_cli.methods.kd import CE, KD, SoftCE
from rkkd_cli.methods.method import Method, Pair
from rkkd_cli.methods.mlkd import MLKD
from rkkd_cli.methods.objective import TERMS, Objective, term_names
from rkkd_cli.methods.reviewkd import ReviewKD
from rkkd_cli.methods.rkd import RKD
from rkkd_cli.methods.simkd import SimKD
from rkkd_cli.methods.sp import SP
from rkkd_cli.methods.vid import VID
from rkkd_cli.plugins import load_plugin

__all__ = [
    "METHODS",
    "DistillInputs",
    "Method",
    "Objective",
    "Pair",
    "ViewOutputs",
    "build_objective",
]

METHODS: dict[str, type[Method]] = {
    "ce": CE,
    "kd": KD,
    "soft_ce": SoftCE,
    "dkd": DKD,
    "dist": DIST,
    "ctkd": CTKD,
    "mlkd": MLKD,
    "rkd": RKD,
    "sp": SP,
    "fitnet": FitNet,
    "at": AT,
    "vid": VID,
    "crd": CRD,
    "reviewkd": ReviewKD,
    "simkd": SimKD,
}

# The section with the settings of a method that comes from elsewhere.
PLUGIN_SECTION = "plugin"

# Columns of metrics.csv that no method's own term may be called.
TAKEN = (*TERMS, "arm", "seed", "epoch", "lr", "kendall_tau", "agreement", "images_per_second",
         "epoch_seconds")  # fmt: skip
TAKEN_BEGINNINGS = ("train_", "test_", "val_", "grad_")


def build_objective(method_config: MethodConfig, rank: RankConfig, pair: Pair) -> Objective:
    """Return the terms and weights of an arm, and the trainable parts that its method adds.

    Raises UserError for an unknown method, surrogate or choice of channels, for settings that the
    method does not have, and where it does not fit the pair.
    """
    method = method_class(method_config.name)(method_config, _settings(method_config), pair)
    ranking = KendallRankingLoss(rank.steepness, rank.surrogate, rank.channels)
    objective = Objective(method, ranking, rank.weight if rank.grad else 0.0)
    _check_terms(method_config.name, objective)
    return objective


def method_class(name: str) -> type[Method]:
    """Return the method of this name, or the user's own. Raises UserError."""
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise unknown_name("method", name, METHODS)
    found = load_plugin("method", name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(
            f"method {name} is no subclass of rkkd_cli.methods.Method; see CONTRIBUTING.md"
        )
    return found


def method_terms(method_config: MethodConfig) -> tuple[str, ...]:
    """Return the names of the terms that only arms with this method have."""
    return term_names(method_config, method_class(method_config.name))


def wants_strong_view(method_config: MethodConfig) -> bool:
    """Tell whether the method looks at a second, strongly augmented view of each batch."""
    return method_class(method_config.name).needs_strong_view


def _settings(method_config: MethodConfig) -> FrozenConfig:
    """Return the method's own settings; those of other methods are checked as well."""
    tables = dict(method_config.settings)
    known = {name: method.Config for name, method in METHODS.items()}
    if method_config.name not in METHODS:
        known[PLUGIN_SECTION] = method_class(method_config.name).Config
    for name in tables:
        if name not in known and name != PLUGIN_SECTION:
            close = nearest(name, known)
            hint = f"did you mean method.{close}?" if close else "see `rkkd ls methods`"
            raise UserError(f"method.{name}: there is no method {name!r}; {hint}")
    read = {
        name: _read(f"method.{name}", model, tables.get(name, {})) for name, model in known.items()
    }
    return read[method_config.name if method_config.name in METHODS else PLUGIN_SECTION]


def _read(where: str, model: type[FrozenConfig], table: object) -> FrozenConfig:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise UserError(sentence_of(error, where, model.model_fields)) from None


def _check_terms(name: str, objective: Objective) -> None:
    for term in objective.method_terms:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", term):
            raise UserError(
                f"method {name}: a term is named {term!r}; use small letters, digits and _"
            )
        if term in TAKEN or term.startswith(TAKEN_BEGINNINGS):
            raise UserError(f"method {name}: the term {term!r} has the name of another column")
    last = objective.weights(10**6)
    if not any(last.values()):
        raise UserError(
            "an arm has nothing to optimise: all its weights are 0; raise ce_weight, kl_weight or "
            "rank.weight"
        )
