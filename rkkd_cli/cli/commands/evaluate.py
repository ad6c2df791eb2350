"""``rkkd evaluate``: measure trained students on a split of their run, or on other images."""

from pathlib import Path

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN
from rkkd_cli.cli.flags.students import BEST, DEVICE, EMA, weights_kind

SPLITS = ("test", "val", "train")


@takes(
    RUN,
    Flag("arms", list[str] | None, "Arms of the run; default: all.", positional=True,
         metavar="ARM"),
    Flag("seed", int | None, "Seed of the students; default: all."),
    BEST, EMA,
    Flag("data_root", Path | None, "Another image folder: DIR/<class>/*, or DIR/test/<class>/*; "
         "default: the run's own images.", metavar="DIR"),
    Flag("split", str, "Images to measure on.", default="test", choices=SPLITS),
    DEVICE, JSON_ONLY, OUT,
)  # fmt: skip
def evaluate(
    run: str,
    arms: list[str] | None,
    seed: int | None,
    best: bool,
    ema: bool,
    data_root: Path | None,
    split: str,
    device: str,
    as_json: bool,
    out: Path,
) -> None:
    """Measure the trained students of a run: accuracy and cross-entropy, or average precision.

    On another folder the classes are found by the names of its folders; it need not have all. That
    of a detector has annotations, in the format of the run's.
    """
    from rkkd_cli.cli.runtime.evaluate_students import evaluate_students
    from rkkd_cli.sweep.students.student import open_trained, read_students

    students = read_students(open_trained(run, out), arms, seed, weights_kind(best, ema))
    root = None if data_root is None else data_root.expanduser()
    evaluate_students(students, root, split, device, as_json)
