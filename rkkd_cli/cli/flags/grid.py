"""The flags of ``rkkd grid`` alone: what it varies, and which cells it trains."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rkkd_cli.cli.flags.engine import PLACE
from rkkd_cli.cli.flags.flag import Bundle, Flag
from rkkd_cli.cli.flags.runs import NAME
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.config.grid import CellSelection

VARY, CELLS = "What to vary", "Which cells"

# fmt: off
VARY_ALPHA = Flag("alpha", str | None, panel=VARY, metavar="VALUES",
    help="Values of method.alpha: 0.1,0.25 or 0.1:0.9:0.2 or log:1:50:6.")
VARY_TEMPERATURE = Flag("temperature", str | None, panel=VARY, metavar="VALUES",
    help="Values of method.temperature.")
VARY_KEY = Flag("vary", list[str] | None, panel=VARY, metavar="KEY=VALUES",
    help="Values of any other key of an experiment, such as training.lr=0.1,0.05; may be given "
         "again and again.")

SAMPLE = Flag("sample", int | None, panel=CELLS, metavar="N",
    help="Train only N cells of the product.")
SAMPLER = Flag("sampler", str, panel=CELLS, default="random", metavar="random|sobol",
    help="Draw the cells of --sample uniformly at random, or along a Sobol sequence, which "
         "covers every key more evenly.")
SAMPLE_SEED = Flag("sample_seed", int, panel=CELLS, default=0, min=0,
    help="Seed of the sampler: the same one draws the same cells.")
YES = Flag("yes", bool, panel=CELLS, default=False,
    help="Allow more than 1,000 cells.")
RETRY_FAILED = Flag("retry_failed", bool, panel=CELLS, default=False,
    help="Train the failed cells again.")
FAIL_FAST = Flag("fail_fast", bool, panel=CELLS, default=False,
    option=("--fail-fast/--keep-going",),
    help="End at the first cell that fails, or go on with the others.")
PUBLISHED_GRID = Flag("published", str | None, panel=CELLS, metavar="FILE|PRESET",
    help="A CSV file of published accuracies to stand beside the measured ones, or a preset "
         "that carries some (alpha_temperature).")

CELLS_PER_JOB = Flag("cells_per_job", int | None, panel=PLACE, min=1,
    help="Most cells in one job; default: as many as memory holds, shared out evenly among the "
         "workers.")

GRID_NAME = replace(NAME,
    help="Name of the run; default: the preset's, by which the same command finds its run again.")
# fmt: on


def axes_of(
    alpha: str | None, temperature: str | None, vary: Sequence[str] | None
) -> dict[str, tuple[Any, ...]]:
    """Return ``{key: values}`` of the flags that vary a key. Raises UserError."""
    from rkkd_cli.config.overrides import looks_like_override
    from rkkd_cli.config.value_lists import LIST_KEY, parse_values, without_brackets

    given = [
        (f"--{name}", f"method.{name}", text)
        for name, text in (("alpha", alpha), ("temperature", temperature))
        if text is not None
    ]
    for word in vary or ():
        key, _, text = word.partition("=")
        if not looks_like_override(word):
            raise UserError(f"--vary {word!r}: write KEY=VALUES, such as training.lr=0.1,0.05")
        given.append((f"--vary {key.strip()}", key.strip(), text))
    axes: dict[str, tuple[Any, ...]] = {}
    for flag, key, text in given:
        if key in axes:
            raise UserError(f"{flag}: {key} is varied twice; give all its values at once")
        try:
            axes[key] = parse_values(text if LIST_KEY.fullmatch(key) else without_brackets(text))
        except ValueError as error:
            raise UserError(f"{flag} {text!r}: {error}") from None
    return axes


def chosen_cells(sample: int | None, sampler: str, sample_seed: int, yes: bool) -> "CellSelection":
    """Return which cells of the product are wanted."""
    from rkkd_cli.config.grid import CellSelection

    return CellSelection(sample, sampler, sample_seed, yes)


GRID_AXES = Bundle("axes", (VARY_ALPHA, VARY_TEMPERATURE, VARY_KEY), axes_of)
GRID_CELLS = Bundle("choice", (SAMPLE, SAMPLER, SAMPLE_SEED, YES), chosen_cells)
