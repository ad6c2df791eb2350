"""The typed flags of the everyday keys, shared by the commands that train."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from rkkd_cli import records

WHAT, HOW, RANK, WHERE = "What to train", "How to train it", "The ranking loss", "Where and how"

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="PRESET KEY=VALUE",
        help="A preset (see `rkkd ls presets`), a TOML file or the folder of a run to repeat, "
        "then any number of overrides such as training.weight_decay=1e-4.",
        show_default=False,
    ),
]

Dataset = Annotated[str | None, Option(help="See `rkkd ls datasets`.", rich_help_panel=WHAT)]
DataRoot = Annotated[
    str | None, Option(help="Folder of the images, or for downloads.", rich_help_panel=WHAT)
]
LimitTrain = Annotated[
    int | None,
    Option(help="Train on a class-balanced subset.", metavar="N", rich_help_panel=WHAT),
]
LimitTest = Annotated[
    int | None, Option(help="Test on a class-balanced subset.", metavar="N", rich_help_panel=WHAT)
]
ValShare = Annotated[
    float | None,
    Option(help="Share of the training images held out for validation.", rich_help_panel=WHAT),
]
Stream = Annotated[
    bool | None,
    Option(
        "--stream/--no-stream",
        help="Read an image folder from the disk batch by batch, or hold it in memory; default: "
        "what is larger than 4 GiB once decoded is streamed.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
TeacherModel = Annotated[
    str | None, Option(help="The teacher's model; see `rkkd ls models`.", rich_help_panel=WHAT)
]
TeacherCheckpoint = Annotated[
    str | None,
    Option(help="Load the teacher instead of training it.", metavar="FILE", rich_help_panel=WHAT),
]
StudentModel = Annotated[str | None, Option(help="The student's model.", rich_help_panel=WHAT)]
Seeds = Annotated[
    str | None,
    Option(help="Seed values: 0, or 0,1,2, or 0:3 (0, 1 and 2).", rich_help_panel=WHAT),
]

Epochs = Annotated[int | None, Option(help="How often each image is seen.", rich_help_panel=HOW)]
BatchSize = Annotated[int | None, Option(help="Images per batch.", rich_help_panel=HOW)]
LearningRate = Annotated[
    float | None, Option(help="Learning rate at the start.", rich_help_panel=HOW)
]
Patience = Annotated[
    int | None,
    Option(
        metavar="N",
        help="End an arm after N epochs without a better --monitor; needs --val-share.",
        rich_help_panel=HOW,
    ),
]
MinDelta = Annotated[
    float | None, Option(help="By how much better, at least.", rich_help_panel=HOW)
]
Monitor = Annotated[
    str | None,
    Option(
        metavar="METRIC",
        help="The metric of the validation split by which epochs are chosen; default val_acc. The "
        "weights of each arm's best epoch are kept.",
        rich_help_panel=HOW,
    ),
]
Method = Annotated[
    str | None,
    Option(
        metavar="NAME",
        help="The distillation method, or your own as package.module:Class; see `rkkd ls methods`.",
        rich_help_panel=HOW,
    ),
]
StandardizeLogits = Annotated[
    bool | None,
    Option(
        "--standardize-logits",
        help="Standardise each image's logits in the method's terms.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Alpha = Annotated[
    float | None, Option(help="Weight of KL; CE gets 1 − alpha.", rich_help_panel=HOW)
]
Temperature = Annotated[
    float | None, Option(help="Temperature of the KL divergence.", rich_help_panel=HOW)
]

RankGrad = Annotated[
    str,
    Option(
        metavar="on|off|both",
        help="on: the arms that backpropagate it; off: those that only log it; both.",
        rich_help_panel=RANK,
    ),
]
RankWeight = Annotated[
    float | None, Option(help="Its weight in the objective.", rich_help_panel=RANK)
]
RankSteepness = Annotated[
    float | None, Option(help="Steepness k of the surrogate.", rich_help_panel=RANK)
]
RankSurrogate = Annotated[
    str | None, Option(help="See `rkkd ls surrogates`.", rich_help_panel=RANK)
]
RankChannels = Annotated[
    str | None, Option(help="all, top:SHARE or bottom:SHARE.", rich_help_panel=RANK)
]

Device = Annotated[
    str | None,
    Option(
        help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps.", rich_help_panel=WHERE
    ),
]
Precision = Annotated[
    str | None,
    Option(help="fp32, tf32 (on CUDA) or bf16 (autocast).", rich_help_panel=WHERE),
]
Deterministic = Annotated[
    bool | None,
    Option(
        "--deterministic",
        help="Let CUDA repeat every number exactly, at some cost; a CPU always does.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
Stack = Annotated[
    bool | None,
    Option(
        "--stack/--no-stack",
        help="Let arms of one architecture step as one stacked student, or one after another; "
        "default: on CUDA what a trial shows to be faster, elsewhere one after another.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
CudaGraph = Annotated[
    bool | None,
    Option(
        "--cuda-graph/--no-cuda-graph",
        help="On CUDA, record a step of all arms as one graph and replay it, held against the step "
        "itself first.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
CacheTeacher = Annotated[
    bool | None,
    Option(
        "--cache-teacher/--no-cache-teacher",
        help="Keep the teacher's logits on disk and read them when the same stream comes again; "
        "no number changes (cache_teacher=fp16: half the size, rounded).",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
SyncBatchNorm = Annotated[
    bool | None,
    Option(
        "--sync-batchnorm",
        help="Under torchrun, let batch normalisation see the whole batch, not each rank's part.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
Resume = Annotated[
    str | None,
    Option(
        metavar="NAME|auto",
        help="Go on with a run; auto: with --name if it was begun, else begin it.",
        rich_help_panel=WHERE,
    ),
]
CheckpointMinutes = Annotated[
    float,
    Option(
        min=0.0,
        metavar="MINUTES",
        help="Within an epoch, keep a checkpoint so often; one is kept after each epoch anyway.",
        rich_help_panel=WHERE,
    ),
]
Results = Annotated[
    Path, Option("--out", help="The folder that holds the runs.", rich_help_panel=WHERE)
]
Run = Annotated[str, Argument(metavar="RUN", help="Name or folder of a run.")]
Runs = Annotated[
    list[str] | None,
    Argument(
        metavar="RUN", help="Names or folders of runs; default: the newest.", show_default=False
    ),
]
PublishedValues = Annotated[
    str | None,
    Option(
        "--published",
        metavar="auto|FILE|PRESET",
        help="Published values to stand beside the measured ones: a CSV file, a preset that "
        "carries some, or auto for the run's own preset.",
    ),
]
Name = Annotated[
    str | None, Option(help="The run's name; default: preset and time.", rich_help_panel=WHERE)
]
TensorBoard = Annotated[
    bool,
    Option(
        "--tensorboard",
        help="Write TensorBoard event files too, into the run's folder.",
        rich_help_panel=WHERE,
    ),
]
Wandb = Annotated[
    bool,
    Option(
        "--wandb",
        help="Log to Weights & Biases too; offline, unless WANDB_MODE says otherwise.",
        rich_help_panel=WHERE,
    ),
]
MLflow = Annotated[
    bool,
    Option(
        "--mlflow",
        help="Log to MLflow too: a SQLite file in the run's folder, or MLFLOW_TRACKING_URI.",
        rich_help_panel=WHERE,
    ),
]
DryRun = Annotated[
    bool,
    Option(
        "--dry-run", help="Check all, show what would run, write nothing.", rich_help_panel=WHERE
    ),
]
Profile = Annotated[
    bool,
    Option("--profile", help="Say where the time of a step goes, and write a trace for a browser."),
]
Quiet = Annotated[
    bool,
    Option("--quiet", "-q", help="Print the run's folder and nothing else.", rich_help_panel=WHERE),
]
Json = Annotated[
    bool,
    Option("--json", help="Print one JSON object; the rest goes to stderr.", rich_help_panel=WHERE),
]

DEFAULT_RESULTS = records.DEFAULT_RESULTS
DEFAULT_CHECKPOINT_MINUTES = 10.0
