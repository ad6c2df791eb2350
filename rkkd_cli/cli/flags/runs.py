"""The flags about runs: their folder, checkpoints, loggers, what is printed, which one is read."""

from dataclasses import replace
from pathlib import Path

from rkkd_cli import records
from rkkd_cli.api.options import ChosenLoggers
from rkkd_cli.cli.flags.experiment import WHERE
from rkkd_cli.cli.flags.flag import REQUIRED, Bundle, Flag
from rkkd_cli.errors import UserError

MAX_TAG = 64  # characters that W&B takes

# fmt: off
FORCE = Flag("force", bool, "Replace a file that is there.", default=False)
RUN = Flag("run", str, positional=True, default=REQUIRED, metavar="RUN",
    help="Name or folder of a run.")
RUN_OR_NEWEST = Flag("run", str | None, positional=True, metavar="RUN",
    help="Name or folder of a run; default: the newest.")
RUNS = Flag("runs", list[str] | None, positional=True, metavar="RUN",
    help="Names or folders of runs; default: the newest.")

OUT = Flag("out", Path, panel=WHERE, default=records.DEFAULT_RESULTS,
    help="Folder that holds the runs.")
NAME = Flag("name", str | None, panel=WHERE,
    help="Name of the run; default: preset and time.")
TITLE = Flag("title", str | None, key="title", panel=WHERE,
    help="What the run is called in lists, figures and the report; default: the preset's title, "
         "or the data and models where those are not the preset's.")
RESUME = Flag("resume", str | None, panel=WHERE, metavar="NAME|auto",
    help="Go on with a run; auto: with --name if it was begun, else begin it.")
ACCEPT_CHANGED_CODE = Flag("accept_changed_code", bool, panel=WHERE, default=False,
    help="Go on with a run although code of your own has changed since it began; it is recorded.")
CHECKPOINT_MINUTES = Flag("checkpoint_minutes", float, panel=WHERE, default=10.0,
    metavar="MINUTES", min=0.0,
    help="Keep a checkpoint this often within an epoch; one is kept after each epoch anyway.")

TENSORBOARD = Flag("tensorboard", bool, panel=WHERE, default=False,
    help="Write TensorBoard event files too, into the run's folder.")
WANDB = Flag("wandb", bool, panel=WHERE, default=False,
    help="Log to Weights & Biases too; offline, unless WANDB_MODE says otherwise.")
MLFLOW = Flag("mlflow", bool, panel=WHERE, default=False,
    help="Log to MLflow too: a SQLite file in the run's folder, or MLFLOW_TRACKING_URI.")
WANDB_PROJECT = Flag("wandb_project", str | None, panel=WHERE, metavar="NAME",
    help="Log to this project of Weights & Biases; default: WANDB_PROJECT, or rkkd.")
TAGS = Flag("tags", list[str] | None, panel=WHERE, option=("--tag",), metavar="TAG",
    help="A word by which the loggers find the run; several with commas, or given again.")

DRY_RUN = Flag("dry_run", bool, panel=WHERE, default=False,
    help="Check everything and show what would run; write nothing.")
VERBOSE = Flag("verbose", bool, panel=WHERE, default=False,
    help="With --dry-run, print the resolved experiment on stdout, as TOML to run.")
FIGURES = Flag("figures", bool, panel=WHERE, default=True, option=("--figures/--no-figures",),
    help="Draw the figures at the end, or leave them to `rkkd plot`.")
QUIET = Flag("quiet", bool, panel=WHERE, default=False, option=("--quiet", "-q"),
    help="Print the run's folder and nothing else.")
PROFILE = Flag("profile", bool, default=False,
    help="Show where the time of a step goes, and write a trace for a browser.")
JSON = Flag("as_json", bool, panel=WHERE, default=False, option=("--json",),
    help="Print one JSON object; the rest goes to stderr.")
JSON_ONLY = replace(JSON, help="Print one JSON object instead of text.", panel=None)

SELECT = Flag("select", str, default="last", metavar="last|best|val",
    help="Epoch that counts: the last one, that of the best test accuracy (which flatters), or "
         "that of the best validation accuracy.")
PUBLISHED = Flag("published", str | None, metavar="auto|FILE|PRESET",
    help="Published values to stand beside the measured ones: a CSV file, a preset that carries "
         "some, or auto for the run's own preset.")
# fmt: on


def format_flag(*choices: str) -> Flag:
    """Return ``--format`` with these choices; the first is the default."""
    spelt_out = {"text": "plain text", "md": "Markdown", "latex": "LaTeX", "csv": "CSV"}
    *names, last = (spelt_out[choice] for choice in choices)
    return Flag(
        "to",
        str,
        f"Print as {', '.join(names)} or {last}.",
        default=choices[0],
        option=("--format",),
        choices=choices,
    )


def choose_loggers(
    wandb_project: str | None, tags: list[str] | None, **wanted: bool
) -> ChosenLoggers:
    """Return the wanted loggers. Raises UserError for a missing package, and for unusable tags."""
    wanted["wandb"] |= wandb_project is not None
    names = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    if names:
        from rkkd_cli.sweep.loggers import check_installed

        check_installed(names)
    words = tuple(dict.fromkeys(word.strip() for tag in tags or () for word in tag.split(",")))
    if words and not names:
        raise UserError("--tag needs a logger: --tensorboard, --wandb or --mlflow")
    if any(not 1 <= len(word) <= MAX_TAG for word in words):
        raise UserError(f"--tag {','.join(words)}: a tag has 1 to {MAX_TAG} characters")
    return ChosenLoggers(names, wandb_project, words)


RUN_FOLDER = (OUT, NAME, TITLE)
LOGGERS = Bundle("loggers", (TENSORBOARD, WANDB, WANDB_PROJECT, MLFLOW, TAGS), choose_loggers)
