"""The flags of the commands that use a trained student."""

from dataclasses import replace

from rkkd_cli.cli.flags.experiment import DEVICE as EXPERIMENT_DEVICE
from rkkd_cli.cli.flags.flag import REQUIRED, Flag

# fmt: off
ARM = Flag("arm", str, positional=True, default=REQUIRED, metavar="ARM",
    help="Arm of the run, such as kd.")
SEED = Flag("seed", int | None,
    help="Seed of the student; default: the run's first one.")
BEST = Flag("best", bool, default=False,
    help="Take the weights of the epoch that --monitor or --patience selected, not the last ones.")
DEVICE = replace(EXPERIMENT_DEVICE, type=str, key=None, panel=None, default="auto")
# fmt: on
