"""The flags of the commands that use a trained student."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rkkd_cli.cli.flags.experiment import DEVICE as EXPERIMENT_DEVICE
from rkkd_cli.cli.flags.flag import REQUIRED, Flag
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.train.events import WeightsKind

# fmt: off
ARM = Flag("arm", str, positional=True, default=REQUIRED, metavar="ARM",
    help="Arm of the run, such as kd.")
SEED = Flag("seed", int | None,
    help="Seed of the student; default: the run's first one.")
BEST = Flag("best", bool, default=False,
    help="Take the weights of the epoch that --monitor or --patience selected, not the last ones.")
EMA = Flag("ema", bool, default=False,
    help="Take the moving averages of the weights after the last epoch (training.ema_decay).")
DEVICE = replace(EXPERIMENT_DEVICE, type=str, key=None, panel=None, default="auto")
# fmt: on


def weights_kind(best: bool, ema: bool) -> "WeightsKind":
    """Return which weights the flags name. Raises UserError for both."""
    if best and ema:
        raise UserError(
            "--best and --ema name different weights; with training.monitor=val_acc_ema the best "
            "ones are moving averages"
        )
    return "best" if best else "ema" if ema else "final"
