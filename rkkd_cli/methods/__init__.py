"""Distillation methods: the loss terms of an arm, their weights, and trainable parts.

A method of your own subclasses :class:`Method`; CONTRIBUTING.md shows one from nothing to a run.
"""

import re

from pydantic import ValidationError

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig, RankConfig
from rkkd_cli.config.tasks import TASKS
from rkkd_cli.config.validation import section_error
from rkkd_cli.errors import UserError, nearest, unknown_name
from rkkd_cli.losses import KendallRankingLoss
from rkkd_cli.methods.at import AT
from rkkd_cli.methods.crd import CRD
from rkkd_cli.methods.ctkd import CTKD
from rkkd_cli.methods.darkrank import DarkRank
from rkkd_cli.methods.dist import DIST
from rkkd_cli.methods.dkd import DKD
from rkkd_cli.methods.fitnet import FitNet
from rkkd_cli.methods.hard_term import CROSS_ENTROPY, HardTerm
from rkkd_cli.methods.inputs import DistillInputs, ViewOutputs
from rkkd_cli.methods.kd import CE, KD, SoftCE, TripletAlone
from rkkd_cli.methods.method import Method, ModelPair
from rkkd_cli.methods.mlkd import MLKD
from rkkd_cli.methods.objective import Objective, method_term_names
from rkkd_cli.methods.pld import PLD
from rkkd_cli.methods.reviewkd import ReviewKD
from rkkd_cli.methods.rkd import RKD
from rkkd_cli.methods.simkd import SimKD
from rkkd_cli.methods.sp import SP
from rkkd_cli.methods.vid import VID
from rkkd_cli.plugins import load_plugin

__all__ = [
    "METHODS",
    "DistillInputs",
    "FrozenConfig",
    "Method",
    "MethodConfig",
    "ModelPair",
    "Objective",
    "ViewOutputs",
    "build_objective",
    "check_settings",
]

METHODS: dict[str, type[Method]] = {
    "ce": CE,
    "triplet": TripletAlone,
    "kd": KD,
    "soft_ce": SoftCE,
    "dkd": DKD,
    "dist": DIST,
    "ctkd": CTKD,
    "mlkd": MLKD,
    "pld": PLD,
    "rkd": RKD,
    "sp": SP,
    "fitnet": FitNet,
    "at": AT,
    "vid": VID,
    "darkrank": DarkRank,
    "crd": CRD,
    "reviewkd": ReviewKD,
    "simkd": SimKD,
}

# The section with the settings of a method that is not part of rkkd.
PLUGIN_SECTION = "plugin"

# Columns of metrics.csv, which no method's own term may be called.
SHARED_TERMS = {term for task in TASKS.values() for term in task.shared_terms}
RESERVED_TERMS = (*SHARED_TERMS, "arm", "seed", "epoch", "lr", "kendall_tau", "agreement",
                  "images_per_second", "epoch_seconds")  # fmt: skip
RESERVED_PREFIXES = ("train_", "test_", "val_", "grad_")


def build_objective(
    method_config: MethodConfig,
    rank: RankConfig,
    pair: ModelPair,
    hard: HardTerm = CROSS_ENTROPY,
) -> Objective:
    """Return an arm's objective: its terms, their weights, and its method's trainable parts.

    Raises:
        UserError: the method, surrogate or choice of channels is unknown, the method's own settings
            are wrong, or the method cannot train this pair of models. The sections of other
            methods are left to :func:`check_settings`.

    """
    method_type = method_class(method_config.name)
    section = method_config.name if method_config.name in METHODS else PLUGIN_SECTION
    config = _parse_section(section, method_type, method_config.settings.get(section, {}))
    method = method_type(method_config, config, pair)
    ranking = KendallRankingLoss(**rank.settings)
    rank_weight = rank.weight if rank.grad else 0.0
    objective = Objective(method, hard, ranking, rank_weight)
    _check_terms(method_config.name, objective)
    return objective


def check_settings(method_config: MethodConfig) -> None:
    """Check the sections of all methods, also of those that the arm does not use.

    The section ``plugin`` is read only by a method that is not part of rkkd.

    Raises:
        UserError: the arm's method is unknown, a section names no method, or a setting is wrong.

    """
    methods = dict(METHODS)
    if method_config.name not in METHODS:
        methods[PLUGIN_SECTION] = method_class(method_config.name)
    for section, table in method_config.settings.items():
        if section in methods:
            _parse_section(section, methods[section], table)
        elif section != PLUGIN_SECTION:
            close = nearest(section, methods)
            hint = f"did you mean method.{close}?" if close else "see `rkkd ls methods`"
            raise UserError(f"method.{section}: there is no method {section!r}; {hint}")


def method_class(name: str) -> type[Method]:
    """Return the method of this name, or the user's own class ``package.module:Name``.

    Raises UserError if there is none.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise unknown_name("method", name, METHODS)
    plugin = load_plugin("method", name)
    if not (isinstance(plugin, type) and issubclass(plugin, Method)):
        raise UserError(
            f"method {name} is no subclass of rkkd_cli.methods.Method; see CONTRIBUTING.md"
        )
    return plugin


def method_terms(method_config: MethodConfig) -> tuple[str, ...]:
    """Return the names of the terms that only arms with this method have."""
    return method_term_names(method_config, method_class(method_config.name))


def reads_alpha(method_config: MethodConfig) -> bool:
    """Return whether ``alpha`` weighs CE or KL. A method of the user's may read it."""
    if method_config.name not in METHODS:
        return True
    weights_are_set = None not in (method_config.ce_weight, method_config.kl_weight)
    return issubclass(METHODS[method_config.name], KD) and not weights_are_set


def wants_strong_view(method_config: MethodConfig) -> bool:
    """Return whether the method reads a second, strongly augmented view of each batch."""
    return method_class(method_config.name).needs_strong_view


def _parse_section(section: str, method: type[Method], table: object) -> FrozenConfig:
    """Return the settings of a section ``method.…``. Raises UserError."""
    try:
        return method.Config.model_validate(table)
    except ValidationError as error:
        keys = method.Config.model_fields
        raise UserError(section_error(error, f"method.{section}", keys)) from None


def _check_terms(name: str, objective: Objective) -> None:
    """Raise UserError for a term that cannot be a column, or an arm without any weight."""
    for term in objective.method_terms:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", term):
            raise UserError(
                f"method {name}: a term is named {term!r}; use small letters, digits and _"
            )
        if term in RESERVED_TERMS or term.startswith(RESERVED_PREFIXES):
            raise UserError(f"method {name}: the term {term!r} has the name of another column")
    weights_after_warm_up = objective.loss_weights(epoch=10**6)
    if not any(weights_after_warm_up.values()):
        raise UserError(
            "an arm has nothing to optimise: all its weights are 0; raise ce_weight, kl_weight or "
            "rank.weight"
        )
